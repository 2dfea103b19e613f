"""Ogg pages made by hand, right and wrong, for tests of what a stranger may send."""

import struct
from collections.abc import Sequence

TAGS = b"OpusTags" + struct.pack("<I5sI", 5, b"tests", 0)


def opus_head(channels: int = 1) -> bytes:
    return b"OpusHead" + struct.pack("<BBHIhB", 1, channels, 312, 48000, 0, 0)


def page(
    packets: Sequence[bytes],
    number: int,
    *,
    flags: int = 0,
    serial: int = 7,
    open_end: bool = False,
) -> bytes:
    """A page of whole packets; ``open_end``: the last goes on (size a multiple of 255).

    Its checksum is left 0: decoders that check it are not under test.
    """
    lacing = b""
    for packet in packets:
        lacing += b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])
    if open_end:
        lacing = lacing[:-1]
    head = struct.pack(
        "<4sBBqIIIB", b"OggS", 0, flags, 0, serial, number, 0, len(lacing)
    )
    return head + lacing + b"".join(packets)


def beginning(serial: int = 7) -> bytes:
    """The two header pages of a stream."""
    return page([opus_head()], 0, flags=2, serial=serial) + page(
        [TAGS], 1, serial=serial
    )
