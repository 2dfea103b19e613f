"""What the first bytes of a sound file say: its kind, its size and its parts.

It handles only what the decoders get wrong: files that were joined, and those that
were never finished (``chunks``). Sources: RFC 3533 (Ogg), RFC 7845 (Opus in Ogg),
RFC 9639 (FLAC).
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from .chunks import aiff_spans, au_spans, caf_spans, wav_spans
from .span import Span

HEAD = 64  # bytes that show the kind of a file
MOST_PARTS = 1000  # most parts of a file that was joined
_MAGIC = {
    b"RIFF": "wav",
    b"RF64": "wav",
    b"RIFX": "wav",
    b"BW64": "wav",
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
_BLOCK = 2**20
_MOST_TAGS = 16
_PAGE = struct.Struct("<4sBBqIIIB")  # OggS, version, flags, granule, serial, ...
_BEGINS = 2  # flag of a page
_OPUS_HZ = 48_000  # at which Opus counts its samples, whatever the sound's rate
_MOST_SAMPLES = 255 * 8192  # in a page


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


def spans(file: BinaryIO, kind: str, size: int) -> list[Span]:
    """The parts of a file: one, unless several files were joined."""
    find = _SPANS.get(kind)
    return find(file, size)[:MOST_PARTS] if find else [Span(0, size)]


class _Page(NamedTuple):
    """A page of an Ogg stream: its bytes, and the samples up to its end, if any."""

    start: int
    stop: int
    flags: int = 0
    samples: int = -1
    serial: int = 0


@dataclass
class _Bitstream:
    """An Ogg stream, or several that share a file's time (sound and picture).

    Attributes:
        start, stop: its bytes.
        serials: of its streams.
        first, last: samples up to the end of its first page with sound, and of its
            last one.
    """

    start: int
    stop: int = 0
    serials: set[int] = field(default_factory=set)
    first: int = 0
    last: int = 0

    def add(self, page: _Page) -> None:
        self.stop = page.stop
        self.serials.add(page.serial)
        if page.samples > 0:
            self.first = self.first or page.samples
            # A damaged page may say anything.
            if page.samples - (self.last or page.samples) <= _MOST_SAMPLES:
                self.last = page.samples

    def span(self, file: BinaryIO, stop: int) -> Span:
        file.seek(self.start)
        _, opus, head = file.read(HEAD).partition(b"OpusHead")
        skipped = int.from_bytes(head[2:4], "little") if opus else 0
        begun = self.first if self.first > _MOST_SAMPLES else skipped
        samples = self.last - begun
        if len(self.serials) > 1:
            samples = 0
        hz = _OPUS_HZ if opus else 0
        return Span(self.start, stop, shortest=samples, marks_hz=hz)


def _ogg_spans(file: BinaryIO, size: int) -> list[Span]:
    """Joined Ogg streams, each up to where the next one begins."""
    streams, beginning = [_Bitstream(0)], True
    for page in _pages(file):
        begins = bool(page.flags & _BEGINS)
        if begins and not beginning:
            streams.append(_Bitstream(page.start))
        beginning = begins
        streams[-1].add(page)
    stops = [*(stream.start for stream in streams[1:]), size]
    found = [s.span(file, stop) for s, stop in zip(streams, stops, strict=True)]
    if streams[-1].stop > size:
        last = found.pop()
        note = "its end is missing, so what is there is read"
        found.append(Span(last.start, streams[-1].stop, note=note))
    return found


def _pages(file: BinaryIO) -> Iterator[_Page]:
    """Every Ogg page; damaged bytes are skipped."""
    at = 0
    while True:
        file.seek(at)
        page = file.read(_PAGE.size)
        if page[:4] != b"OggS":
            if (at := _find(file, (b"OggS",), at)) < 0:
                return
            continue
        if len(page) < _PAGE.size:
            yield _Page(at, at + _PAGE.size)
            return
        _, version, flags, samples, serial, _, _, segments = _PAGE.unpack(page)
        if version or flags > 7:
            at += 4
            continue
        stop = at + _PAGE.size + segments + sum(file.read(segments))
        yield _Page(at, stop, flags, samples, serial)
        at = stop


def _flac_spans(file: BinaryIO, size: int) -> list[Span]:
    """Joined FLAC files."""
    starts, at = [0], 0
    while (at := _find(file, _FLAC_STARTS, at)) >= 0:
        starts.append(at)
        at += len(_FLAC_STARTS[0])
    starts[:2] = [0]  # tags may stand before the first one
    edges = zip(starts, [*starts[1:], size], strict=True)
    return [Span(*each) for each in edges]


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


_SPANS: dict[str, Callable[[BinaryIO, int], list[Span]]] = {
    "wav": wav_spans,
    "aiff": aiff_spans,
    "caf": caf_spans,
    "au": au_spans,
    "ogg": _ogg_spans,
    "flac": _flac_spans,
}
