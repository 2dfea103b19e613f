"""Images from files and bytes, as the pixels that a model sees.

Pillow reads them. Images from strangers are checked before they are decoded: only five
common formats are accepted, and the number of pixels is read from the header.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Union

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from .extras import require

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MAX_BYTES = 20_000_000
MAX_PIXELS = 64_000_000  # decoded: 256 MB
KNOWN = "a JPEG, PNG, WebP, GIF or BMP file"

Pixels = NDArray[np.float32]
ImageLike = Union[str, os.PathLike[str], bytes, NDArray[np.uint8], "Image"]


def open_image(image: ImageLike) -> "Image":
    """A decoded image; of an animation, the first picture.

    Args:
        image: a file, its bytes, an array uint8 ``[H, W, 3]``, or an image of Pillow,
            which is used as it is.

    Raises: ImageError, in one sentence, if it is not an image, damaged or too large;
        MissingExtra without Pillow.
    """
    require("image", "an image")
    from PIL import Image

    if isinstance(image, Image.Image):
        _check_size("the image", image)
        return image
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, bytes):
        return _decoded("the image", image)
    path = Path(image)
    return _decoded(str(path), _bytes_of(path))


def read_pixels(image: ImageLike, size: int, centre_crop: bool = False) -> Pixels:
    """An image as float32 ``[size, size, 3]`` from -1 to 1: see ``squared``."""
    return squared(image, size, centre_crop).astype(np.float32) / 127.5 - 1


def squared(
    image: ImageLike, size: int, centre_crop: bool = False
) -> NDArray[np.uint8]:
    """An image as the model takes it, uint8 ``[size, size, 3]``.

    It is rotated as its camera noted, made square regardless of its proportions (as
    MoshiVis was trained) with Pillow's bicubic filter (as in Kyutai's MLX code), and
    put on white if it is transparent.

    Args:
        image: see ``open_image``.
        centre_crop: cut a square out of the middle instead of squeezing.
    """
    opened = open_image(image)
    with _told("the image"):
        from PIL import Image, ImageOps

        whole = _with_colours(opened)
        box = _middle(*whole.size) if centre_crop else None
        small = whole.resize((size, size), Image.Resampling.BICUBIC, box)
        small.info = {**opened.info}
        small = ImageOps.exif_transpose(small)
        if small.mode == "RGBA":
            white = Image.new("RGBA", small.size, "white")
            small = Image.alpha_composite(white, small)
        return np.asarray(small.convert("RGB"), np.uint8)


def _bytes_of(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise ImageError(f"there is no image {str(path)!r}: check the name.")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ImageError(_too_long(str(path), size))
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}.") from None


def _decoded(name: str, data: bytes) -> "Image":
    from PIL import Image

    if len(data) > MAX_BYTES:
        raise ImageError(_too_long(name, len(data)))
    with _told(name):
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_size(name, image)
        image.load()
    return image


def _from_array(array: NDArray[np.uint8]) -> "Image":
    from PIL import Image

    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3:
        raise ImageError(
            f"an array of {array.dtype} {list(array.shape)} came as an image: give "
            "uint8 [height, width, 3]."
        )
    return Image.fromarray(array)


def _check_size(name: str, image: "Image") -> None:
    width, height = image.size
    if not width or not height or width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {width} x {height} pixels: give one of 1 to "
            f"{MAX_PIXELS / 1e6:.0f} million."
        )


def _too_long(name: str, size: int) -> str:
    return (
        f"{name} is {size / 1e6:.1f} MB long: give an image of up to "
        f"{MAX_BYTES / 1e6:.0f} MB."
    )


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Pillow's many errors as one; what it says of damage differs by format."""
    from PIL.Image import DecompressionBombError

    try:
        yield
    except ImageError:
        raise
    except DecompressionBombError:
        raise ImageError(
            f"{name} has too many pixels: give one of up to "
            f"{MAX_PIXELS / 1e6:.0f} million."
        ) from None
    except MemoryError:
        raise ImageError(f"{name} needs more memory than there is.") from None
    except Exception as error:
        raise ImageError(
            f"{name} is no image that can be read: give {KNOWN}."
        ) from error


def _with_colours(image: "Image") -> "Image":
    """As RGB, or as RGBA if it may be transparent."""
    if image.mode in ("RGB", "RGBA"):
        return image
    if image.mode.startswith("I;16"):  # grey in 16 bits
        from PIL import Image

        grey = (np.asarray(image, np.uint16) >> 8).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    clear = image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info
    return image.convert("RGBA" if clear else "RGB")


def _middle(width: int, height: int) -> tuple[float, float, float, float]:
    """The largest square in the middle, as left, top, right, bottom."""
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side
