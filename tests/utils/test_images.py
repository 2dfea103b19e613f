"""Images: what is read, how it is scaled, and what is refused in one sentence."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from moshi_mlx.errors import ImageError
from moshi_mlx.utils import images
from moshi_mlx.utils.images import MAX_PIXELS, open_image, read_pixels
from tests.vision import picture, tensors


def file_of(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def halves(width: int = 40, height: int = 20) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("blue", (width // 2, 0, width, height))
    return image


def corner(image: np.ndarray, where: tuple[int, int]) -> str:
    names = {(1, -1, -1): "red", (-1, -1, 1): "blue", (1, 1, 1): "white"}
    r, g, b = (round(float(value)) for value in image[where])
    return names.get((r, g, b), f"{(r, g, b)}")


def test_pixels_are_the_reference_s():
    for seed in (0, 1):
        expected = np.array(tensors("io")["pixel_values"][seed]).transpose(1, 2, 0)
        found = read_pixels(picture(seed), 28)
        assert found.dtype == np.float32
        assert np.allclose(found, expected, atol=1e-6)
        assert np.allclose(read_pixels(file_of(open_image(picture(seed))), 28), found)


@pytest.mark.parametrize("form", images.FORMATS)
def test_every_format_is_read_from_files_and_bytes(tmp_path: Path, form: str):
    data = file_of(halves(), form)
    path = tmp_path / "picture"  # its name does not matter
    path.write_bytes(data)
    for given in (data, path, str(path)):
        pixels = read_pixels(given, 8)
        assert pixels.shape == (8, 8, 3)
        assert corner(pixels, (0, 0)) == "red" and corner(pixels, (7, 7)) == "blue"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_every_kind_of_pixels_becomes_red_green_and_blue(mode: str):
    if mode == "I;16":
        image = Image.fromarray(np.full((4, 4), 65535, np.uint16))
    else:
        image = Image.new("RGB", (4, 4), "white").convert(mode)
    form = "JPEG" if mode == "CMYK" else "PNG"
    assert np.allclose(read_pixels(file_of(image, form), 4), 1, atol=0.02)


def test_what_is_transparent_becomes_white():
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert np.allclose(read_pixels(image, 8), 1)
    grey = file_of(Image.new("L", (8, 8), 0), transparency=0)
    assert np.allclose(read_pixels(grey, 8), 1)


def test_a_photo_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: its left is below
    pixels = read_pixels(file_of(halves(), "JPEG", exif=exif, quality=95), 8)
    assert corner(pixels, (0, 4)) == "red" and corner(pixels, (7, 4)) == "blue"


def test_the_middle_may_be_cut_out():
    image = Image.new("RGB", (30, 10), "blue")
    image.paste("red", (10, 0, 20, 10))
    assert corner(read_pixels(image, 10, centre_crop=True), (5, 0)) == "red"
    assert corner(read_pixels(image, 10), (5, 0)) == "blue"


def test_of_an_animation_the_first_picture_counts():
    first, then = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    data = file_of(first, "GIF", save_all=True, append_images=[then])
    assert corner(read_pixels(data, 4), (0, 0)) == "red"


def bomb(width: int, height: int) -> bytes:
    """The head of a PNG of so many pixels, in some bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    return start + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [8100, 12_000, 60_000])  # Pillow's own limit: 13,400
def test_bombs_are_refused_by_their_heads(side: int):
    with pytest.raises(ImageError, match="pixels: give one"):
        open_image(bomb(side, side))
    assert MAX_PIXELS < 8100**2


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"hello", bytes(100), b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM"),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        bomb(10, 10)[:45],
        file_of(halves(), "TIFF"),
        file_of(halves(400, 400), "JPEG")[:400],
        file_of(halves(400, 400), "WEBP")[:60],
    ],
)
def test_what_is_no_image_is_told_in_one_sentence(data: bytes):
    with pytest.raises(ImageError, match="is no image that can be read: give a JPEG"):
        open_image(data)


def test_damage_raises_nothing_but_an_image_error():
    rng = np.random.default_rng(0)
    for form in images.FORMATS:
        whole = np.frombuffer(file_of(halves(), form), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            places = rng.integers(0, len(whole), 4)
            damaged[places] = rng.integers(0, 256, 4)
            try:
                pixels = read_pixels(damaged.tobytes(), 8)
            except ImageError as error:
                assert str(error).count(". ") == 0
            else:
                assert np.isfinite(pixels).all()


def test_a_long_file_is_refused_unread(tmp_path: Path, monkeypatch):
    path = tmp_path / "long.png"
    path.touch()
    with path.open("r+b") as file:
        file.truncate(images.MAX_BYTES + 1)
    monkeypatch.setattr(Path, "read_bytes", None)
    with pytest.raises(ImageError, match=r"long\.png is 20\.0 MB long"):
        open_image(path)
    with pytest.raises(ImageError, match=r"the image is 20\.0 MB long"):
        open_image(bytes(images.MAX_BYTES + 1))


def test_files_and_arrays_that_cannot_be_are_told(tmp_path: Path):
    for there in (tmp_path / "none.png", tmp_path):
        with pytest.raises(ImageError, match="there is no image"):
            open_image(there)
    with pytest.raises(ImageError, match=r"float32 \[4, 4\] came as an image: give"):
        open_image(np.zeros((4, 4), np.float32))  # type: ignore[arg-type]
