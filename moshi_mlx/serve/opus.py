"""Sound on the wire: an Ogg-Opus stream in pieces, or plain float32 samples.

A decoder that trusts a stranger can be made to fill the memory: sphn's reader turns an
empty packet into five seconds of sound, a page of 282 bytes into 20 minutes, and after
one wrong byte it repeats its error forever. So pages are parsed here, their decoded
length is added up first, and only sound pages are passed on.
"""

import struct
from typing import Protocol

import numpy as np

from ..audio.framing import SAMPLE_RATE
from ..audio.samples import Pcm
from ..errors import ProtocolError

MAX_SECONDS = 12.0  # of sound in one message
MAX_PACKET = 8192  # bytes; 120 ms of the best Opus has 7.7 kB
MAX_PAGES = 1000  # in one message; 12 s of the shortest usual packets have 600
MAX_HEADER = 65536  # bytes of the comment header, cover art and all
_PAGE = struct.Struct("<4sBBqIIIB")  # magic, version, flags, granule, serial, ...
_FIRST_PAGE = 2  # flag: a stream begins here
_CONTINUED = 1  # flag: the first packet began on an earlier page
_HEADERS = 2  # packets before the sound: OpusHead, OpusTags
# Milliseconds of one Opus frame by the packet's configuration number (RFC 6716, 3.1).
_SILK_MS = (10, 20, 40, 60)
_HYBRID_MS = (10, 20)
_CELT_MS = (2.5, 5, 10, 20)
_MAX_PACKET_MS = 120
_PRE_SKIP = 312  # delay of the encoder, in samples at 48 kHz


class Reader(Protocol):
    """From a client's bytes to samples at 24 kHz."""

    def push(self, data: bytes | memoryview) -> Pcm:
        """Take a piece of the stream; returns the samples ``[S]`` that it completes.

        Raises: ProtocolError if it is not such sound.
        """
        ...


class Writer(Protocol):
    """From samples at 24 kHz to a client's bytes."""

    def push(self, pcm: Pcm) -> bytes:
        """Take a frame ``[1920]``; returns the next piece of the stream."""
        ...


def packet_ms(packet: bytes) -> float:
    """Milliseconds of sound in an Opus packet, from its first two bytes.

    Raises: ProtocolError for a packet that is not valid Opus.
    """
    if not packet:
        raise ProtocolError("an Opus packet is empty.")
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        frame_ms = _SILK_MS[config % 4]
    elif config < 16:
        frame_ms = _HYBRID_MS[config % 2]
    else:
        frame_ms = _CELT_MS[config % 4]
    frames = (1, 2, 2)[code] if code < 3 else packet[1] & 63 if len(packet) > 1 else 0
    if not 0 < frames * frame_ms <= _MAX_PACKET_MS:
        raise ProtocolError(f"an Opus packet claims {frames} frames of {frame_ms} ms.")
    return frames * frame_ms


class OpusReader:
    """Decodes an Ogg-Opus stream that arrives in pieces of any size.

    A client may start a new stream at any time. A packet may span pages; storage is
    limited to one page and one packet.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._stream: _Decoder | None = None

    def push(self, data: bytes | memoryview) -> Pcm:
        self._bytes += data
        out: list[Pcm] = []
        seconds = 0.0
        for page in self._whole_pages():
            if page[5] & _FIRST_PAGE:
                self._stream = _Decoder()
            elif self._stream is None:
                raise ProtocolError(
                    "the sound does not begin with the first page of an Ogg stream: "
                    "send the stream from its beginning."
                )
            seconds += self._stream.check(page)
            if seconds > MAX_SECONDS:
                raise ProtocolError(
                    f"one message holds more than {MAX_SECONDS:.0f} s of sound: send "
                    "it as it is spoken."
                )
            out.append(self._stream.decode(page))
        return np.concatenate(out) if out else np.zeros(0, np.float32)

    def _whole_pages(self) -> list[bytes]:
        """The complete pages; an incomplete one is kept.

        Raises: ProtocolError if no page can start here, or for too many of them.
        """
        pages: list[bytes] = []
        at = 0
        while (end := self._end_of_page(at)) is not None:
            pages.append(bytes(self._bytes[at:end]))
            at = end
            if len(pages) > MAX_PAGES:
                raise ProtocolError(
                    f"one message holds more than {MAX_PAGES} Ogg pages: send sound as "
                    "it is spoken."
                )
        del self._bytes[:at]
        return pages

    def _end_of_page(self, at: int) -> int | None:
        """The end of the page that starts at ``at``; None if it is incomplete."""
        head = self._bytes[at : at + 4]
        if not b"OggS".startswith(head):
            raise ProtocolError(
                f"sound that begins with {head.hex(' ')} is not Ogg-Opus: send an "
                "Ogg-Opus stream, or float32 samples with ?format=pcm."
            )
        if len(self._bytes) < at + _PAGE.size:
            return None
        body = at + _PAGE.size + self._bytes[at + _PAGE.size - 1]
        if len(self._bytes) < body:
            return None
        end = body + sum(self._bytes[at + _PAGE.size : body])
        return end if end <= len(self._bytes) else None


class _Decoder:
    """One Ogg stream: adds up what a page would decode to, then decodes it."""

    def __init__(self) -> None:
        import sphn

        self._sphn = sphn.OpusStreamReader(SAMPLE_RATE)
        self._packets = 0  # started so far
        self._begun = b""  # start of the packet that the next page continues
        self._begun_size = 0
        self._serial: bytes | None = None

    def check(self, page: bytes) -> float:
        """Seconds of sound that ``page`` completes; raises ProtocolError."""
        if self._serial is None:
            self._serial = page[14:18]
        elif page[14:18] != self._serial:
            raise ProtocolError("two Ogg streams are mixed: send one stream of sound.")
        if bool(page[5] & _CONTINUED) != bool(self._begun_size):
            raise ProtocolError("an Ogg page does not go on where the last one ended.")
        lacing = page[_PAGE.size : _PAGE.size + page[_PAGE.size - 1]]
        at = _PAGE.size + len(lacing)
        milliseconds = 0.0
        for size in lacing:
            if len(self._begun) < 8:
                self._begun += page[at : at + min(size, 8 - len(self._begun))]
            self._begun_size += size
            at += size
            limit = MAX_HEADER if self._packets < _HEADERS else MAX_PACKET
            if self._begun_size > limit:
                raise ProtocolError(f"an Opus packet is longer than {limit} bytes.")
            if size < 255:
                milliseconds += self._packet_ms()
                self._packets += 1
                self._begun, self._begun_size = b"", 0
        return milliseconds / 1000

    def _packet_ms(self) -> float:
        if self._packets == 0 and self._begun != b"OpusHead":
            raise ProtocolError("the Ogg stream holds no Opus: encode it as Opus.")
        if self._packets == 1 and self._begun != b"OpusTags":
            raise ProtocolError("the second packet of the Opus stream is not OpusTags.")
        return packet_ms(self._begun) if self._packets >= _HEADERS else 0.0

    def decode(self, page: bytes) -> Pcm:
        try:
            return self._sphn.append_bytes(page)
        except ValueError as error:
            raise ProtocolError(f"the Opus stream is damaged: {error}.") from error


class OpusWriter:
    """Encodes an endless Ogg-Opus stream, one or more pages per frame.

    sphn's header tells players to skip the first 80 ms (its pre-skip). Here it says 6.5
    ms, the delay of Opus, so that they lose no sound.
    """

    def __init__(self) -> None:
        import sphn

        self._sphn = sphn.OpusStreamWriter(SAMPLE_RATE)
        self._begun = False

    def push(self, pcm: Pcm) -> bytes:
        data = bytes(self._sphn.append_pcm(pcm))
        begun, self._begun = self._begun, self._begun or bool(data)
        return data if begun or not data else _with_pre_skip(data)


def _with_pre_skip(stream: bytes) -> bytes:
    """A stream whose first page, with only the packet OpusHead, says ``_PRE_SKIP``."""
    page = bytearray(stream[: _PAGE.size + 1 + stream[_PAGE.size]])
    page[_PAGE.size + 11 : _PAGE.size + 13] = _PRE_SKIP.to_bytes(2, "little")
    page[22:26] = bytes(4)
    page[22:26] = _checksum(page).to_bytes(4, "little")
    return bytes(page) + stream[len(page) :]


def _checksum(page: bytes | bytearray) -> int:
    """Ogg's CRC-32 (RFC 3533, 6), of a page whose checksum is 0."""
    value = 0
    for octet in page:
        value ^= octet << 24
        for _ in range(8):
            value = (value << 1) ^ (0x104C11DB7 if value & 0x80000000 else 0)
    return value


class PcmReader:
    """Float32 samples, little-endian, 24 kHz, mono; a message may hold any number."""

    def push(self, data: bytes | memoryview) -> Pcm:
        if len(data) % 4:
            raise ProtocolError(
                f"{len(data)} bytes are not whole float32 samples of 4 bytes each."
            )
        if len(data) > 4 * SAMPLE_RATE * MAX_SECONDS:
            raise ProtocolError(
                f"one message holds more than {MAX_SECONDS:.0f} s of sound: send it "
                "as it is spoken."
            )
        pcm = np.frombuffer(data, "<f4").astype(np.float32)
        if not np.isfinite(pcm).all():
            raise ProtocolError("the sound holds samples that are not numbers.")
        return np.clip(pcm, -1.0, 1.0)


class PcmWriter:
    """Float32 samples, little-endian, as they are."""

    def push(self, pcm: Pcm) -> bytes:
        return pcm.astype("<f4").tobytes()
