"""Counts WebSocket frames as they pass, without taking them apart (RFC 6455, 5.2)."""

MAX_FRAGMENTS = 1024  # frames of one message
_CONTINUATION, _CLOSE = 0, 8
_EXTENDED = {126: 2, 127: 8}  # bytes that a longer length takes


class FrameCounter:
    """Where frames of a stream begin, and how many bytes each has.

    What is no valid frame is left to the WebSocket library: here a frame is two bytes,
    a longer length, four bytes of mask, and a payload that is skipped.
    """

    def __init__(self) -> None:
        self._header = b""  # of a frame that has only begun
        self._rest = 0  # bytes of the frame at hand that have not come
        self.fragments = 0  # of the message at hand

    def cut(self, data: bytes | bytearray, most: int) -> tuple[int, list[int]]:
        """How much of ``data`` holds at most ``most`` new frames.

        Returns: bytes up to there, and the size of each frame that begins in them.
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
