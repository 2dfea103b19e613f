"""The length of a sound file by its own header.

Sources: RIFF, RF64 and W64 as in ``containers``; AIFF and AU; Apple Core Audio Format
1.0; Microsoft's Advanced Systems Format 1.2; ISO/IEC 14496-12 (MPEG-4).
"""

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

from .chunks import STREAMED, UNKNOWN
from .containers import HEAD, behind_tags

_FIRST_FRAME = 2**12  # bytes: the first frame of an MP3 is shorter, including padding
_COUNTED = re.compile(rb"(?:Xing|Info)\0\0\0[\x01\x03\x05\x07\x09\x0b\x0d\x0f]|VBRI")
_UNCOUNTED = ("", "adts", "amr", "asf")
_MOST_CHUNKS = 1000
_LARGEST = 2**40  # bytes
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_HEADER = 2**16  # bytes within which they stand


def says_length(file: BinaryIO, kind: str) -> bool:
    """Whether a file counts its samples. An MP3 does if its first frame is a table
    (Xing, Info, VBRI); for other streams decoders guess a length from the bit rate,
    which may change."""
    if kind != "mp3":
        return kind not in _UNCOUNTED
    file.seek(behind_tags(file))
    return _COUNTED.search(file.read(_FIRST_FRAME)) is not None


def declared_size(file: BinaryIO, kind: str) -> int | None:
    """The file's size in bytes by its own header; None if it is missing or nonsense."""
    size = _declared_size(file, kind)
    return size if size and size < _LARGEST else None


def _declared_size(file: BinaryIO, kind: str) -> int | None:
    file.seek(0)
    head = file.read(HEAD)
    if len(head) < 24:
        return None
    if head[:4] in (b"RIFF", b"FORM"):
        size = struct.unpack_from("<I" if head[:1] == b"R" else ">I", head, 4)[0]
        return size + 8 if 0 < size < STREAMED else None
    if head[:4] == b"RF64" and head[12:16] == b"ds64":
        return struct.unpack_from("<Q", head, 20)[0] + 8
    if head[:4] == b"riff":
        return struct.unpack_from("<Q", head, 16)[0]
    if head[:4] == b".snd":
        offset, size = struct.unpack_from(">II", head, 4)
        return None if size == UNKNOWN else offset + size
    if kind == "caf":
        stops = (stop for name, stop in _caf_chunks(file) if name == b"data")
        return next(stops, None)
    return _asf_size(file) if kind == "asf" else None


def _caf_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Names and ends of a Core Audio file's chunks; the last one, if its length is
    unknown, is left out."""
    at, end = 8, file.seek(0, 2)
    for _ in range(_MOST_CHUNKS):
        if at + 12 > end:
            return
        file.seek(at)
        head = file.read(12)
        name, size = struct.unpack(">4sq", head)
        if size < 0:
            return
        at += 12 + size
        yield name, at


def _lacks_packets(file: BinaryIO, size: int) -> bool:
    file.seek(28)  # the identifier of its format, in the first chunk
    if file.read(4) in (b"lpcm", b"alaw", b"ulaw"):
        return False
    chunks = dict(_caf_chunks(file))
    return chunks.get(b"data", 0) > size and b"pakt" not in chunks


def _asf_size(file: BinaryIO) -> int | None:
    file.seek(0)
    header = file.read(_ASF_HEADER)
    # behind its name, length and the file's name
    at = header.find(_ASF_PROPERTIES) + 40
    if at < 40 or len(header) < at + 8:
        return None
    return struct.unpack_from("<Q", header, at)[0]


def lacks_index(file: BinaryIO, kind: str, size: int) -> bool:
    """Whether an MPEG-4 file (or a compressed Core Audio file) was cut off before or
    within its index. The index is often the last part, and without it nothing can be
    read."""
    if kind == "caf":
        return _lacks_packets(file, size)
    at = 0
    for _ in range(_MOST_CHUNKS if kind == "mp4" else 0):
        if at + 8 > size:
            return at >= size
        file.seek(at)
        head = file.read(16)
        length, name = struct.unpack_from(">I4s", head)
        if length == 1 and len(head) == 16:
            length = struct.unpack_from(">Q", head, 8)[0]
        if name == b"moov":
            return at + length > size
        if length < 8:  # 0: the rest of the file
            return False
        at += length
    return False
