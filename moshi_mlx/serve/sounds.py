"""Sound as clients send it, in pieces cut anywhere, to samples at a model's rate."""

import base64
import binascii
import io
import struct
from typing import Protocol

import numpy as np

from ..audio.chunks import UNKNOWN
from ..audio.resample import Resampler
from ..audio.samples import Pcm, as_int16, fault, mixed
from ..errors import AudioError, ProtocolError
from .opus import OpusReader

MOST_CHANNELS = 8
MOST_HEADER = 65536  # bytes before the samples of a WAV stream
_INTEGER, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE  # kinds of samples in a WAV header
_SAMPLES = {(_INTEGER, 2): "<i2", (_INTEGER, 4): "<i4", (_FLOAT, 4): "<f4"}
_FORMAT = struct.Struct("<HHIIHH")  # kind, channels, rate, bytes/s, frame, bits


def from_base64(value: object) -> bytes | None:
    """The bytes of a base64 string; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None


class SoundReader(Protocol):
    """From bytes to samples."""

    def push(self, data: bytes) -> Pcm:
        """The samples ``[S]`` that a piece completes. Raises: ProtocolError."""
        ...

    def flush(self) -> Pcm:
        """End the sound; returns the last samples."""
        ...


class SampleReader:
    """Bare samples.

    Args:
        source_hz: their rate.
        target_hz: the wanted rate.
        width: bytes of a sample, 2 or 4.
        channels: number of channels, which are mixed into one.
        is_float: whether samples are floats; integers otherwise.

    Raises: ProtocolError for an impossible shape.
    """

    def __init__(
        self,
        source_hz: int,
        target_hz: int,
        width: int = 2,
        channels: int = 1,
        is_float: bool = False,
    ):
        kind = _SAMPLES.get((_FLOAT if is_float else _INTEGER, width))
        if kind is None or not 1 <= channels <= MOST_CHANNELS:
            raise ProtocolError(
                f"the sound has {channels} channels and {width} bytes a sample: send 1 "
                f"to {MOST_CHANNELS} channels of 2 or 4 bytes."
            )
        self._dtype = np.dtype(kind)
        self._channels = channels
        self._scale = 1.0 if is_float else 2.0 ** (8 * width - 1)
        self._rest = b""
        self._resampler = None
        if source_hz != target_hz:
            try:
                self._resampler = Resampler(source_hz, target_hz)
            except AudioError as error:
                raise ProtocolError(str(error)) from error

    def push(self, data: bytes) -> Pcm:
        data = self._rest + data
        size = self._dtype.itemsize * self._channels
        whole = len(data) // size * size
        self._rest = data[whole:]
        pcm = np.frombuffer(data[:whole], self._dtype).astype(np.float32) / self._scale
        if wrong := fault(pcm):
            raise ProtocolError(f"the sound holds samples that {wrong}.")
        return self._resampled(mixed(pcm.reshape(-1, self._channels).T))

    def _resampled(self, pcm: Pcm) -> Pcm:
        if self._resampler is None:
            return pcm[0].astype(np.float32, copy=False)
        return self._resampler.push(pcm)[0]

    def flush(self) -> Pcm:
        if self._resampler is None:
            return np.zeros(0, np.float32)
        return self._resampler.flush()[0]


class CompandedReader(SampleReader):
    """8 kHz telephone sound, one byte per sample (ITU-T G.711).

    Args:
        law: "ULAW" or "ALAW".
    """

    def __init__(self, law: str, target_hz: int):
        super().__init__(TELEPHONE_HZ, target_hz)
        self._law = law

    def push(self, data: bytes) -> Pcm:
        if not data:
            return np.zeros(0, np.float32)
        return self._resampled(expanded(data, self._law)[None])


TELEPHONE_HZ = 8000


def expanded(data: bytes, law: str) -> Pcm:
    """The samples ``[S]`` of companded bytes; ``law`` is "ULAW" or "ALAW"."""
    import soundfile

    pcm, _ = soundfile.read(
        io.BytesIO(data),
        dtype="float32",
        **{"format": "RAW", "subtype": law, "samplerate": TELEPHONE_HZ, "channels": 1},
    )
    return np.asarray(pcm, np.float32)


def companded(pcm: Pcm, law: str) -> bytes:
    """Samples ``[S]`` as companded bytes; ``law`` is "ULAW" or "ALAW"."""
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, np.clip(pcm, -1, 1), TELEPHONE_HZ, law, format="RAW")
    return out.getvalue()


class WavStreamReader:
    """A WAV file in pieces; its header may come in pieces too."""

    def __init__(self, target_hz: int):
        self._target_hz = target_hz
        self._head = b""
        self._samples: SampleReader | None = None
        self._left = 0  # bytes of samples to come

    def push(self, data: bytes) -> Pcm:
        if self._samples is None:
            self._head += data
            begin = self._read_header()
            if self._samples is None:
                if len(self._head) > MOST_HEADER:
                    raise ProtocolError(
                        f"no samples came in the first {MOST_HEADER} bytes of the WAV "
                        "stream."
                    )
                return np.zeros(0, np.float32)
            data, self._head = self._head[begin:], b""
        data, self._left = data[: self._left], max(0, self._left - len(data))
        return self._samples.push(data)

    def _read_header(self) -> int:
        """The start of the samples, once it is known."""
        head, at, shape = self._head, 12, None
        if len(head) >= 12 and (head[:4] != b"RIFF" or head[8:12] != b"WAVE"):
            raise ProtocolError("the sound does not begin like a WAV file.")
        while len(head) >= at + 8:
            name = head[at : at + 4]
            size = int.from_bytes(head[at + 4 : at + 8], "little")
            at += 8
            if name == b"data":
                if shape is None:
                    raise ProtocolError("the WAV header does not say what is in it.")
                self._samples = self._reader(shape)
                self._left = UNKNOWN if size == 0 else size
                if self._left == UNKNOWN:
                    self._left = 1 << 62
                return at
            if name == b"fmt ":
                shape = head[at : at + size]
            at += size + size % 2
        return 0

    def _reader(self, shape: bytes) -> SampleReader:
        if len(shape) < _FORMAT.size:
            raise ProtocolError("the WAV header is damaged.")
        kind, channels, hz, _, _, bits = _FORMAT.unpack(shape[: _FORMAT.size])
        if kind == _EXTENSIBLE:
            kind = int.from_bytes(shape[24:26], "little")
        if kind not in (_INTEGER, _FLOAT) or bits % 8:
            raise ProtocolError(
                "the WAV stream is compressed: send 16-bit integers or 32-bit floats."
            )
        is_float = kind == _FLOAT
        return SampleReader(hz, self._target_hz, bits // 8, channels, is_float)

    def flush(self) -> Pcm:
        if self._samples is None:
            return np.zeros(0, np.float32)
        return self._samples.flush()


class OggReader:
    """An Ogg-Opus stream."""

    def __init__(self) -> None:
        self._opus = OpusReader()

    def push(self, data: bytes) -> Pcm:
        return self._opus.push(data)

    def flush(self) -> Pcm:
        return np.zeros(0, np.float32)


class SampleWriter:
    """A model's samples as bytes at another rate.

    Args:
        source_hz: the model's rate.
        target_hz: the wanted rate.
        law: "ULAW" or "ALAW" for companded bytes; 16-bit samples otherwise.
    """

    def __init__(self, source_hz: int, target_hz: int, law: str | None = None):
        self._resampler = None
        if source_hz != target_hz:
            self._resampler = Resampler(source_hz, target_hz)
        self._law = law

    def push(self, pcm: Pcm) -> bytes:
        """The bytes that samples ``[S]`` complete."""
        if self._resampler is not None:
            pcm = self._resampler.push(pcm[None])[0]
        if self._law is not None:
            return companded(pcm, self._law)
        return as_int16(pcm).tobytes()
