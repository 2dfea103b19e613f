"""Sound files made of chunks whose sizes are wrong: never finished, or too small.

Such a file is read to its end: behind a new header where its own cannot be trusted.
Sources: Multimedia Programming Interface 1.0 (RIFF), EBU Tech 3306 (RF64), AIFF-C
draft of 1991, Apple Core Audio Format 1.0, the au man page of SunOS.
"""

import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

from .span import Span

UNKNOWN = 2**32 - 1  # in RIFF, a size that was not known when it was written
STREAMED = 0x7FFF_0000  # larger sizes mean the same
_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9 ]{3}")  # of a chunk
_TAGS = (b"TAG", b"ID3", b"APETAGEX")  # what players add after a sound
_BLOCK = 2**20
_LONGEST_FORMAT = 2**12  # bytes
_AU = struct.Struct(">4sIIIII")  # .snd, offset, size, encoding, rate, channels
_WAVES = {b"RIFF": "<", b"RF64": "<", b"BW64": "<", b"RIFX": ">"}


@dataclass(frozen=True)
class _Layout:
    """How a family of files counts its chunks.

    Attributes:
        first: where the first chunk begins.
        chunk: a chunk's name and length.
        format, sound: names of the chunks with the format, and with the samples.
        lead: bytes before the samples in their chunk.
        even: whether chunks begin at even places.
    """

    first: int
    chunk: struct.Struct
    format: bytes
    sound: bytes
    lead: int = 0
    even: bool = True

    def next(self, at: int, length: int) -> int:
        """Where the chunk behind the one at ``at`` begins."""
        return at + self.chunk.size + length + (length % 2 if self.even else 0)


_WAVE = {
    order: _Layout(12, struct.Struct(order + "4sI"), b"fmt ", b"data") for order in "<>"
}
_AIFF = _Layout(12, struct.Struct(">4sI"), b"COMM", b"SSND", lead=8)
_CAF = _Layout(8, struct.Struct(">4sq"), b"desc", b"data", lead=4, even=False)


@dataclass(frozen=True)
class _Found:
    """The chunk with a file's samples.

    Attributes:
        at, length: of the chunk, as its header says.
        format: what the chunk before says about the samples; empty if it is missing.
        tidy: whether the chunks before it can be found by their lengths.
    """

    at: int
    length: int
    format: bytes
    tidy: bool


def wav_spans(file: BinaryIO, size: int) -> list[Span]:
    """Joined WAV files, and those whose sizes are 0, too small or unknown."""
    found, start = [], 0
    while start < size:
        file.seek(start)
        head = file.read(12)
        order = _WAVES.get(head[:4])
        if order is None or head[8:] != b"WAVE":
            break
        span = _span(file, start, size, _WAVE[order])
        found.append(span)
        start = span.stop
    return found or [Span(0, size)]


def aiff_spans(file: BinaryIO, size: int) -> list[Span]:
    """An AIFF or AIFF-C file, read to its end where its size is too small."""
    return [_span(file, 0, size, _AIFF)]


def caf_spans(file: BinaryIO, size: int) -> list[Span]:
    """A Core Audio file, read to its end where its size is too small."""
    return [_span(file, 0, size, _CAF)]


def au_spans(file: BinaryIO, size: int) -> list[Span]:
    """An AU file, read to its end where its size is 0 or too small."""
    file.seek(0)
    head = file.read(_AU.size)
    if len(head) < _AU.size or head[:4] != b".snd":
        return [Span(0, size)]
    _, first, length, *how = _AU.unpack(head)
    if length == UNKNOWN or first + length >= size or first < _AU.size:
        return [Span(0, size)]
    if length and _is_end(file, first + length):
        return [Span(0, size)]
    return [_to_the_end(first, size, not length, _AU.pack(b".snd", 24, UNKNOWN, *how))]


def _span(file: BinaryIO, start: int, size: int, layout: _Layout) -> Span:
    """The part of a file that begins at ``start``."""
    found = _samples(file, start, size, layout)
    if found is None:
        return Span(start, size)
    first = found.at + layout.chunk.size + layout.lead
    end = layout.next(found.at, found.length)
    empty = found.length <= layout.lead
    endless = layout.chunk.size == 8 and found.length >= STREAMED and end > size
    stop = None if endless else _stop(file, end, size, layout, empty)
    if stop is not None and found.tidy:
        return Span(start, stop)
    if not found.format or first >= size:
        return Span(start, size)
    head = _header(file, start, (first, stop or size), layout, found.format)
    if stop is not None:
        return Span(first, stop, head)
    return _to_the_end(first, size, empty or endless, head)


def _to_the_end(first: int, size: int, unknown: bool, head: bytes) -> Span:
    said = "does not say how long it is" if unknown else "says too short a length"
    return Span(first, size, head, f"its header {said}, so it is read to its end")


def _samples(file: BinaryIO, start: int, size: int, layout: _Layout) -> _Found | None:
    """The chunk with the samples; None if there is none, or if it needs no help."""
    at, format_, long_size, tidy = start + layout.first, b"", 0, True
    while at + layout.chunk.size <= size:
        name, length = _chunk(file, at, layout)
        if not _NAME.fullmatch(name) and layout.even:  # some writers do not pad
            at, tidy = at - 1, False
            name, length = _chunk(file, at, layout)
        if not _NAME.fullmatch(name) or length < 0:  # in CAF, to the end of the file
            return None
        if name == b"ds64":
            long_size = struct.unpack("<QQ", file.read(16).ljust(16, b"\0"))[1]
        elif name == b"pakt":  # the sound is compressed, and has a table of packets
            return None
        elif name == layout.format:
            format_ = file.read(min(length, _LONGEST_FORMAT))
        elif name == layout.sound:
            if length == UNKNOWN and long_size:
                length = long_size
            return _Found(at, length, format_, tidy)
        at = layout.next(at, length)
    return None


def _chunk(file: BinaryIO, at: int, layout: _Layout) -> tuple[bytes, int]:
    file.seek(at)
    name, length = layout.chunk.unpack(file.read(layout.chunk.size))
    return name, length


def _stop(
    file: BinaryIO, at: int, size: int, layout: _Layout, empty: bool
) -> int | None:
    """The end of a file whose samples end at ``at``; None if they continue.

    Args:
        empty: whether there are none by the header, which may not be finished.
    """
    if at >= size and not empty:
        return size  # whole, or cut off
    begun = at
    while at + layout.chunk.size <= size:
        name, length = _chunk(file, at, layout)
        if name in _WAVES:
            return at
        if not _NAME.fullmatch(name) or length < 0:
            break
        if at + layout.chunk.size + length > size:
            break
        at = layout.next(at, length)
    return size if at > begun or (not empty and _is_end(file, at)) else None


def _is_end(file: BinaryIO, at: int) -> bool:
    """Whether silence or a tag, and no sound, begins at ``at``."""
    file.seek(at)
    rest = file.read(_BLOCK)
    return not rest.strip(b"\0") or rest.startswith(_TAGS)


def _header(
    file: BinaryIO, start: int, edges: tuple[int, int], layout: _Layout, format_: bytes
) -> bytes:
    """What a file of these samples, from ``edges[0]`` to ``edges[1]``, begins with."""
    file.seek(start)
    magic, length = file.read(12), edges[1] - edges[0] + layout.lead
    if layout is _AIFF:
        format_ = format_[:2] + b"\xff" * 4 + format_[6:]  # instead of their number
    long = length > UNKNOWN - _LONGEST_FORMAT
    known = length if layout is _CAF else min(length, UNKNOWN)
    described = layout.chunk.pack(layout.format, len(format_)) + format_
    described += bytes(len(format_) % 2 if layout.even else 0)
    if long and layout is _WAVE["<"]:
        table = struct.pack("<QQQI", length + _LONGEST_FORMAT, length, 0, 0)
        described = layout.chunk.pack(b"ds64", len(table)) + table + described
        magic = b"RF64" + magic[4:]
    elif layout is _WAVE["<"]:
        magic = b"RIFF" + magic[4:]
    if layout is not _CAF:
        whole = min(known + len(described) + 4 + layout.chunk.size, UNKNOWN)
        magic = magic[:4] + layout.chunk.pack(magic[:4], whole)[4:] + magic[8:]
    begun = magic[: layout.first] + described
    return begun + layout.chunk.pack(layout.sound, known) + bytes(layout.lead)
