"""Frames are counted where they begin, however the bytes are cut."""

import random

import pytest
from websockets.frames import Frame, Opcode

from moshi_mlx.serve.gate.frames import FrameCounter


def stream(rng: random.Random, count: int) -> tuple[bytes, list[int]]:
    """Frames as the WebSocket library writes them, and their sizes."""
    sizes = [rng.choice((0, 1, 125, 126, 300, 65_535, 65_536)) for _ in range(count)]
    data = b"".join(
        Frame(Opcode.BINARY, bytes(size)).serialize(mask=rng.random() < 0.8)
        for size in sizes
    )
    return data, sizes


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_every_frame_is_counted_once_however_the_bytes_are_cut(most):
    rng = random.Random(most)
    data, sizes = stream(rng, 40)
    counter, found, pending = FrameCounter(), [], b""
    at = 0
    while at < len(data) or pending:
        step = rng.choice((1, 2, 5, 7, 1000, 100_000))
        pending, at = pending + data[at : at + step], at + step
        used, seen = counter.cut(pending, most)
        assert len(seen) <= most
        found += seen
        pending = pending[used:]
    assert found == sizes


def test_frames_may_come_byte_by_byte():
    data, sizes = stream(random.Random(5), 3)
    counter, found = FrameCounter(), []
    for byte in data:
        used, seen = counter.cut(bytes([byte]), 10)
        assert used == 1
        found += seen
    assert found == sizes


def test_no_more_frames_than_asked_for_are_cut_off():
    data = Frame(Opcode.PING, b"").serialize(mask=True) * 10
    used, seen = FrameCounter().cut(data, 4)
    assert (used, seen) == (4 * 6, [0] * 4)


def test_parts_of_a_message_are_counted_and_control_frames_between_are_none():
    counter = FrameCounter()

    def take(opcode: Opcode, fin: bool = False) -> int:
        counter.cut(Frame(opcode, b"x", fin).serialize(mask=True), 10)
        return counter.fragments

    assert take(Opcode.TEXT) == 1
    assert [take(Opcode.CONT) for _ in range(3)] == [2, 3, 4]
    assert take(Opcode.PING, True) == take(Opcode.CLOSE, True) == 4
    assert take(Opcode.CONT, True) == 5
    assert take(Opcode.BINARY, True) == 1


def test_a_frame_that_claims_much_is_passed_on_as_it_comes():
    counter = FrameCounter()
    head = b"\x82\xff" + (1 << 60).to_bytes(8, "big") + bytes(4)
    assert counter.cut(head + bytes(100), 10) == (114, [1 << 60])
    assert counter.cut(bytes(1000), 10) == (1000, [])
