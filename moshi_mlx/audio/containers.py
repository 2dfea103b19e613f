"""What the first bytes of a sound file say: its kind, its size and its parts.

It handles only what the decoders get wrong: files that were joined, and WAV headers
that were
never finished. Sources: RFC 3533 (Ogg), RFC 9639 (FLAC), EBU Tech 3306 (RF64),
Multimedia Programming Interface 1.0 (RIFF).
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

HEAD = 64  # bytes that show the kind of a file
MOST_PARTS = 1000  # most parts of a file that was joined
UNKNOWN = 2**32 - 1  # in RIFF, a size that was not known when it was written
STREAMED = 0x7FFF_0000  # larger sizes mean the same
_MAGIC = {
    b"RIFF": "wav",
    b"RF64": "wav",
    b"riff": "w64",
    b".snd": "au",
    b"FORM": "aiff",
    b"caff": "caf",
    b"fLaC": "flac",
    b"OggS": "ogg",
    b"\x1a\x45\xdf\xa3": "matroska",
    b"\x30\x26\xb2\x75": "asf",
    b"#!AM": "amr",
}
_FLAC_STARTS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
_PCM = {1: {8: "PCM_U8", 16: "PCM_16", 24: "PCM_24", 32: "PCM_32"}}
_PCM |= {3: {32: "FLOAT", 64: "DOUBLE"}, 6: {8: "ALAW"}, 7: {8: "ULAW"}}
_EXTENSIBLE = 0xFFFE
_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9 ]{3}")  # of a chunk
_TAGS = (b"TAG", b"ID3", b"APETAGEX")  # what players add after a sound
_BLOCK = 2**20
_MOST_TAGS = 16
_PAGE = struct.Struct("<4sBBqIIIB")  # OggS, version, flags, granule, serial, ...
_BEGINS = 2  # flag of a page


def kind_of(file: BinaryIO) -> str:
    """A file's kind by its content ("wav", "mp3", ...); "" if it is not known."""
    file.seek(behind_tags(file))
    head = file.read(HEAD)
    if head[4:8] == b"ftyp":
        return "mp4"
    if len(head) > 1 and head[0] == 0xFF:
        if head[1] & 0xF6 == 0xF0:
            return "adts"
        if head[1] & 0xE0 == 0xE0 and head[1] & 0x06:  # layers I to III
            return "mp3"
    return _MAGIC.get(head[:4], "")


def behind_tags(file: BinaryIO) -> int:
    """Where a file goes on behind ID3 tags; 0 if it holds nothing else."""
    at = 0
    for _ in range(_MOST_TAGS):
        file.seek(at)
        head = file.read(10)
        if len(head) < 10:
            return 0
        if head[:3] != b"ID3":
            break
        at += 10 + sum((byte & 127) << 7 * i for i, byte in enumerate(head[9:5:-1]))
    return at


@dataclass(frozen=True)
class Span:
    """A part of a file that is a sound of its own.

    Attributes:
        start, stop: its bytes.
        raw: the format of its samples, if the header cannot be trusted, as arguments of
            ``soundfile.SoundFile``.
        note: what is wrong with it, as the end of a sentence.
    """

    start: int
    stop: int
    raw: dict[str, str | int] | None = None
    note: str = ""


def spans(file: BinaryIO, kind: str, size: int) -> list[Span]:
    """The parts of a file: one, unless several files were joined."""
    find = {"wav": _wav_spans, "ogg": _ogg_spans, "flac": _flac_spans}.get(kind)
    return find(file, size)[:MOST_PARTS] if find else [Span(0, size)]


def _between(starts: list[int], size: int) -> Iterator[tuple[int, int]]:
    yield from zip(starts, [*starts[1:], size], strict=True)


def _wav_spans(file: BinaryIO, size: int) -> list[Span]:
    """Joined WAV files, and those whose sizes are 0, too small or unknown."""
    found, start = [], 0
    while start < size:
        file.seek(start)
        head = file.read(12)
        if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
            break
        span = _wav_span(file, start, size)
        found.append(span)
        start = span.stop
    return found or [Span(0, size)]


def _wav_span(file: BinaryIO, start: int, size: int) -> Span:
    at, raw, long_size = start + 12, None, 0
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"ds64":
            long_size = struct.unpack("<QQ", file.read(16).ljust(16, b"\0"))[1]
        elif name == b"fmt ":
            raw = _raw_format(file.read(min(length, 40)))
        elif name == b"data":
            if length == UNKNOWN and long_size:
                length = long_size
            return _data_span(file, (start, at + 8, size), length, raw)
        at += 8 + length + length % 2
    return Span(start, size)


def _data_span(
    file: BinaryIO,
    edges: tuple[int, int, int],
    length: int,
    raw: dict[str, str | int] | None,
) -> Span:
    """A part after a WAV header; ``edges``: start of file and samples, and end."""
    start, first, size = edges
    end = first + length + length % 2
    unknown = length == 0 or (STREAMED <= length <= UNKNOWN and end > size)
    if not unknown and end >= size:
        return Span(start, size)  # whole, or cut off
    if not unknown:
        after = _after_chunks(file, end, size)
        if after is not None:
            return Span(start, after)
    if raw is None or first >= size:
        return Span(start, size)
    said = "does not say how long it is" if unknown else "says too short a length"
    return Span(first, size, raw, f"its header {said}, so it is read to its end")


def _after_chunks(file: BinaryIO, at: int, size: int) -> int | None:
    """The end of a WAV file whose samples end at ``at``; None if they continue."""
    begun = at
    while at < size:
        file.seek(at)
        head = file.read(8)
        name, length = head[:4], int.from_bytes(head[4:], "little")
        if name in (b"RIFF", b"RF64"):
            return at
        if not _NAME.fullmatch(name) or at + 8 + length > size:
            break
        at += 8 + length + length % 2
    file.seek(at)
    rest = file.read(_BLOCK)
    known = at > begun or not rest.strip(b"\0") or rest.startswith(_TAGS)
    return size if known else None


def _raw_format(fmt: bytes) -> dict[str, str | int] | None:
    """The format chunk as ``soundfile`` takes it; None for a compressed one."""
    if len(fmt) < 16:
        return None
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", fmt)
    if tag == _EXTENSIBLE and len(fmt) >= 26:
        tag = struct.unpack_from("<H", fmt, 24)[0]
    subtype = _PCM.get(tag, {}).get(bits)
    if subtype is None or not channels or not rate:
        return None
    return {
        "format": "RAW",
        "subtype": subtype,
        "channels": channels,
        "samplerate": rate,
        "endian": "LITTLE",
    }


def _ogg_spans(file: BinaryIO, size: int) -> list[Span]:
    """Joined Ogg streams, each up to where the next one begins."""
    starts, stop, beginning = [0], 0, True
    for at, flags, stop in _pages(file):  # noqa: B007  # the last end is used
        if flags & _BEGINS and not beginning:
            starts.append(at)
        beginning = bool(flags & _BEGINS)
    found = [Span(*edges) for edges in _between(starts, size)]
    if stop > size:
        last = found.pop()
        note = "its end is missing, so what is there is read"
        found.append(Span(last.start, last.stop, note=note))
    return found


def _pages(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Start, flags and end of every Ogg page; damaged bytes are skipped."""
    at = 0
    while True:
        file.seek(at)
        page = file.read(_PAGE.size)
        if page[:4] != b"OggS":
            if (at := _find(file, (b"OggS",), at)) < 0:
                return
            continue
        if len(page) < _PAGE.size:
            yield at, 0, at + _PAGE.size
            return
        _, version, flags, *_, segments = _PAGE.unpack(page)
        if version or flags > 7:
            at += 4
            continue
        stop = at + _PAGE.size + segments + sum(file.read(segments))
        yield at, flags, stop
        at = stop


def _flac_spans(file: BinaryIO, size: int) -> list[Span]:
    """Joined FLAC files."""
    starts, at = [0], 0
    while (at := _find(file, _FLAC_STARTS, at)) >= 0:
        starts.append(at)
        at += len(_FLAC_STARTS[0])
    starts[:2] = [0]  # tags may stand before the first one
    return [Span(*edges) for edges in _between(starts, size)]


def _find(file: BinaryIO, marks: tuple[bytes, ...], at: int) -> int:
    """The first place from ``at`` on with one of ``marks``; -1 if there is none."""
    longest, size = max(map(len, marks)), 2**12
    while True:
        file.seek(at)
        block = file.read(size)
        places = [place for mark in marks if (place := block.find(mark)) >= 0]
        if places:
            return at + min(places)
        if len(block) < size:
            return -1
        at += len(block) - longest + 1
        size = min(2 * size, _BLOCK)  # near marks are found without reading far
