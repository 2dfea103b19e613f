"""Counts the chunks of a request's body as they pass (RFC 9112, 7.1)."""

_COST = 2048  # bytes that take as long to read as a chunk, however short it is
_LONGEST = 64  # bytes of a chunk's line that matter: its length comes first


class ChunkCounter:
    """Where the chunks of a body start.

    Damaged chunks are left to the HTTP library: here every line is counted that is not
    inside a chunk, also those behind the last one.
    """

    def __init__(self) -> None:
        self._line = b""  # the start of an incomplete line
        self._rest = 0  # bytes of the current chunk still to come
        self._ended = False

    def cut(self, data: bytes | bytearray, most: int) -> tuple[int, int]:
        """The part of ``data`` with at most ``most`` new chunks.

        Returns: its number of bytes, and by how many the chunks that start in it cost
            more to read.
        """
        at, count, end = 0, 0, len(data)
        while at < end:
            if self._rest:
                step = min(self._rest, end - at)
                at, self._rest = at + step, self._rest - step
                continue
            if count == most:
                break
            stop = data.find(b"\n", at, end)
            if stop < 0:
                self._line = (self._line + data[at:end])[:_LONGEST]
                at = end
                break
            self._begin((self._line + data[at:stop])[:_LONGEST])
            self._line, at, count = b"", stop + 1, count + 1
        return at, max(0, count * _COST - at)

    def _begin(self, line: bytes) -> None:
        try:
            size = 0 if self._ended else int(line.partition(b";")[0], 16)
        except ValueError:
            size = 0
        self._ended = self._ended or size <= 0
        self._rest = size + 2 if size > 0 else 0  # and the end of the line behind it
