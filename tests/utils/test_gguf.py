"""GGUF files from strangers: each header makes sense, or one sentence says why not."""

import random
import struct
from pathlib import Path

import mlx.core as mx
import pytest

from moshi_mlx.errors import CheckpointError
from moshi_mlx.utils.gguf import gguf_header, read_gguf
from moshi_mlx.utils.tensor_files import read_header, read_tensors
from tests.tiny import DATA

GOLDEN = DATA / "gguf" / "model.q4.gguf"
HEADER = 6_000  # bytes, of which the golden file's header is most


def text(words: str | bytes) -> bytes:
    data = words.encode() if isinstance(words, str) else words
    return struct.pack("<Q", len(data)) + data


def tensor(
    name: str | bytes = "a.weight",
    shape: tuple[int, ...] = (32, 2),
    kind: int = 8,
    offset: int = 0,
) -> bytes:
    axes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + axes + struct.pack("<IQ", kind, offset)


def gguf(
    *tensors: bytes,
    version: int = 3,
    count: int | None = None,
    metadata: tuple[bytes, ...] = (),
    entries: int | None = None,
    data: bytes = bytes(200),
) -> bytes:
    head = b"GGUF" + struct.pack(
        "<IQQ",
        version,
        len(tensors) if count is None else count,
        len(metadata) if entries is None else entries,
    )
    body = head + b"".join(metadata) + b"".join(tensors)
    return body + bytes(-len(body) % 32) + data


def written(folder: Path, content: bytes) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(content)
    return path


def test_a_small_file_is_read(tmp_path):
    block = struct.pack("<e32b", 0.5, *range(-16, 16))
    keys = (
        text("general.name") + struct.pack("<I", 8) + text("x"),
        text("list") + struct.pack("<IIQ3f", 9, 6, 3, 1.0, 2.0, 3.0),
        text("general.alignment") + struct.pack("<II", 4, 64),
    )
    content = gguf(tensor(shape=(32, 1)), metadata=keys, data=b"")
    content += bytes(-len(content) % 64) + block
    found = read_tensors(written(tmp_path, content))
    parts = (found["a.weight"], found["a.scales"], found["a.biases"])
    values = mx.dequantize(*parts, group_size=32, bits=8)
    assert values.tolist() == [[i / 2 for i in range(-16, 16)]]
    header = read_header(tmp_path / "model.gguf")["a.weight"]
    assert (header.dtype, header.shape, header.nbytes) == ("Q8_0", (1, 32), 34)


@pytest.mark.parametrize(
    "content, words",
    [
        (gguf(tensor(), version=1), "GGUF of version 1"),
        (gguf(tensor(), count=10**15), "1,000,000,000,000,000 entries"),
        (gguf(tensor(), entries=2**63), "entries"),
        (gguf(tensor(), count=2), "a tensor without a name"),
        (gguf(tensor(shape=(32, 2**44))), "damaged GGUF header"),
        (gguf(tensor(shape=(32, 2**20))), "is cut short"),
        (gguf(tensor(shape=(33, 2))), r"shape \(2, 33\) in Q8_0"),
        (gguf(tensor(shape=(32, 1, 1, 1, 1))), "with 5 axes"),
        (gguf(tensor(kind=6)), "Q5_0"),
        (gguf(tensor(kind=99)), "type 99"),
        (gguf(tensor(offset=2**62)), "is cut short"),
        (gguf(tensor(), tensor()), "twice"),
        (gguf(tensor(), tensor("b.weight"), data=bytes(70)), "overlap"),
        (gguf(tensor("x" * 5000)), "a name of 5,000 bytes"),
        (gguf(tensor(b"\xff\xfe")), "damaged GGUF header"),
        (gguf(metadata=(text("k") + struct.pack("<I", 77),)), "metadata of type 77"),
        (gguf(metadata=(text("k") + struct.pack("<IQ", 8, 2**60),)), "cut short"),
        (gguf(metadata=(text("k") + struct.pack("<IIQ", 9, 4, 2**61),)), "cut short"),
        (gguf(metadata=(text("k") + struct.pack("<IIQ", 9, 8, 2**40),)), "a list of"),
        (
            gguf(metadata=(text("k") + struct.pack("<I", 9) * 9,)),
            "a list of|metadata|cut short",
        ),
        (
            gguf(metadata=(text("general.alignment") + struct.pack("<II", 4, 0),)),
            "an alignment of 0",
        ),
        (b"GGUF", "cut short"),
    ],
)
def test_headers_that_make_no_sense_are_refused_in_a_sentence(tmp_path, content, words):
    path = written(tmp_path, content)
    for read in (gguf_header, read_gguf, read_tensors):
        with pytest.raises(CheckpointError, match=words) as caught:
            read(path)
        assert "model.gguf" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [3, 20, 100, 3000, 100_000, 176_000])
def test_a_file_cut_short_is_refused(tmp_path, kept):
    path = written(tmp_path, GOLDEN.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"cut short|not a safetensors file"):
        read_tensors(path)


def test_how_much_of_a_cut_file_is_there_is_said(tmp_path):
    whole = GOLDEN.read_bytes()
    path = written(tmp_path, whole[:100_000])
    said = rf"100\.0 of {len(whole) / 1000:.1f} kB are there"
    with pytest.raises(CheckpointError, match=said):
        read_tensors(path)


def test_changed_bytes_give_tensors_or_a_sentence(tmp_path):
    """200 files, each with some bytes of its header changed."""
    rng, whole = random.Random(0), GOLDEN.read_bytes()
    refused = 0
    for _ in range(200):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.randrange(4, HEADER)
            content[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        if rng.random() < 0.2:
            del content[rng.randrange(len(content)) :]
        path = written(tmp_path, bytes(content))
        try:
            header = read_header(path)
            tensors = read_tensors(path)
        except CheckpointError as error:
            refused += 1
            assert len(str(error)) < 600 and "\n" not in str(error)
        else:
            assert len(tensors) >= len(header)
    assert 20 < refused < 200


def test_shapes_alone_cost_nothing():
    shapes, whole = read_gguf(GOLDEN, shapes_only=True), read_gguf(GOLDEN)
    assert shapes.keys() == whole.keys()
    for name, w in whole.items():
        assert (shapes[name].shape, shapes[name].dtype) == (w.shape, w.dtype), name
