"""Counts WebSocket frames as they pass, without parsing them (RFC 6455, 5.2)."""

MAX_FRAGMENTS = 1024  # frames of one message
_CONTINUATION, _CLOSE = 0, 8
_EXTENDED = {126: 2, 127: 8}  # bytes of a longer length


class FrameCounter:
    """Where the frames of a stream start, and how many bytes each has.

    Invalid frames are left to the WebSocket library: here a frame is two bytes, a
    longer length, four bytes of mask, and a payload that is skipped.
    """

    def __init__(self) -> None:
        self._header = b""  # the start of an incomplete frame
        self._rest = 0  # bytes bytes of the current frame still to come
        self.fragments = 0  # of the current message

    def cut(self, data: bytes | bytearray, most: int) -> tuple[int, list[int]]:
        """The part of ``data`` with at most ``most`` new frames.

        Returns: its number of bytes, and the size of each frame that starts in it.
        """
        at, sizes = 0, []
        end = len(data)
        while True:
            if self._rest:
                step = min(self._rest, end - at)
                at, self._rest = at + step, self._rest - step
            if at == end or (len(sizes) == most and not self._header):
                return at, sizes
            have = self._header + bytes(data[at : at + 14 - len(self._header)])
            size = _header_size(have)
            if size is None or len(have) < size:
                self._header = have
                return end, sizes
            length = _payload_size(have)
            self._count(have[0])
            at += size - len(self._header)
            self._header, self._rest = b"", length
            sizes.append(length)

    def _count(self, first: int) -> None:
        opcode = first & 15
        if opcode == _CONTINUATION:
            self.fragments += 1
        elif opcode < _CLOSE:
            self.fragments = 1


def _header_size(have: bytes) -> int | None:
    if len(have) < 2:
        return None
    return 2 + _EXTENDED.get(have[1] & 127, 0) + (4 if have[1] & 128 else 0)


def _payload_size(have: bytes) -> int:
    short = have[1] & 127
    extended = _EXTENDED.get(short, 0)
    return int.from_bytes(have[2 : 2 + extended], "big") if extended else short
