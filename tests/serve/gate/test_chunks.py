"""Chunks of a body are counted as they pass, wherever they are cut."""

import random

import pytest

from moshi_mlx.serve.gate.chunks import ChunkCounter


def chunked(*bodies: bytes) -> bytes:
    whole = (f"{len(body):x}\r\n".encode() + body + b"\r\n" for body in bodies)
    return b"".join(whole) + b"0\r\n\r\n"


def portions(data: bytes, most: int, step: int) -> list[int]:
    """Sizes of the portions of ``data`` that comes ``step`` bytes at a time."""
    counter, sizes, pending = ChunkCounter(), list[int](), b""
    for at in range(0, len(data), step):
        pending += data[at : at + step]
        while pending:
            size, _ = counter.cut(pending, most)
            assert size > 0
            sizes.append(size)
            pending = pending[size:]
    return sizes


@pytest.mark.parametrize("step", [1, 7, 1000, 100_000])
def test_everything_passes_and_no_more_chunks_at_once_than_may(step: int):
    random.seed(0)
    data = chunked(*(b"\n" * random.choice((1, 2, 500)) for _ in range(300)))
    sizes = portions(data, 10, step)
    assert sum(sizes) == len(data)
    if step == 100_000:  # the last chunk and the empty line behind it count too
        assert len(sizes) == 31


def test_short_chunks_cost_more_than_their_bytes():
    assert ChunkCounter().cut(chunked(bytes(9000)), 64)[1] == 0
    assert ChunkCounter().cut(b"1\r\nx\r\n" * 64, 64) == (384, 64 * 2048 - 384)


@pytest.mark.parametrize("line", [b"x\n", b"-5\r\n", b"\n", b"0;" + b"a" * 999 + b"\n"])
def test_damaged_and_trailing_lines_are_counted_as_chunks(line: bytes):
    size, _ = ChunkCounter().cut(line * 100, 64)
    assert size == 64 * len(line)
