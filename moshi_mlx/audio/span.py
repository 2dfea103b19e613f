"""A part of a sound file that is a sound of its own, as bytes and as a file."""

import io
from dataclasses import dataclass
from typing import Any, BinaryIO


@dataclass(frozen=True)
class Span:
    """A part of a file that is a sound of its own.

    Attributes:
        start, stop: its bytes.
        head: a header to read before them, in place of one that cannot be trusted.
        note: what is wrong with it, as the end of a sentence.
        shortest: number of samples that it holds at least, by its own marks, at
            ``marks_hz``; 0 if it has none.
        marks_hz: the rate of those marks; 0 if it is the sound's own.
    """

    start: int
    stop: int
    head: bytes = b""
    note: str = ""
    shortest: int = 0
    marks_hz: int = 0


class Window(io.RawIOBase):
    """A span of a file, as a file of its own that begins with the span's header."""

    def __init__(self, file: BinaryIO, span: Span):
        self._whole, self._head, self._at = file, span.head, 0
        self._before = span.start - len(span.head)  # where its byte 0 would be
        self._size = span.stop - self._before

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        base = {0: 0, 1: self._at, 2: self._size}[whence]
        self._at = min(max(base + offset, 0), self._size)
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._head[self._at : self._at + len(view)]
        if not data:
            count = max(min(len(view), self._size - self._at), 0)
            self._whole.seek(self._before + self._at)
            data = self._whole.read(count)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
