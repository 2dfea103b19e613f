"""Sound as files and networks carry it, encoded while it is spoken.

soundfile writes MP3 and FLAC frame by frame and sphn writes Ogg-Opus page by page, so
the first bytes leave with the first 80 ms; soundfile would keep Opus until the end. AAC
has no small encoder: the extra `av` brings FFmpeg's.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..errors import AudioError
from ..utils.extras import require
from .chunks import UNKNOWN
from .framing import FRAME, SAMPLE_RATE
from .samples import Pcm, as_int16, as_mono

WAV_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")  # RIFF, its one format chunk, data


class Encoder(Protocol):
    """From samples of one channel to the bytes of a file, in order.

    Attributes:
        corrections: bytes that belong elsewhere than at the end, such as the length in
            a header: (place, bytes). A file can apply them after ``finish``; a stream
            that has been sent cannot, and is complete without them.
    """

    corrections: list[tuple[int, bytes]]

    def push(self, pcm: Pcm) -> bytes:
        """Take samples ``[S]``, any S; returns the bytes that they complete."""
        ...

    def finish(self) -> bytes:
        """End the sound; returns the last bytes."""
        ...


def wav_header(
    num_samples: int | None, channels: int = 1, sample_rate: int = SAMPLE_RATE
) -> bytes:
    """The 44 bytes before 16-bit samples.

    Args:
        num_samples: per channel. None, or more than 4 GiB of them, means "to the end",
            with the sizes that all readers understand this way.
    """
    frame = channels * 2
    size = UNKNOWN if num_samples is None else min(num_samples * frame, UNKNOWN)
    return WAV_HEADER.pack(
        *(b"RIFF", min(size + 36, UNKNOWN), b"WAVE"),
        *(b"fmt ", 16, 1, channels, sample_rate, sample_rate * frame, frame, 16),
        *(b"data", size),
    )


class Samples:
    """Bare 16-bit samples, little-endian."""

    def __init__(self, sample_rate: int = SAMPLE_RATE):
        self.corrections: list[tuple[int, bytes]] = []
        self._rate = sample_rate

    def push(self, pcm: Pcm) -> bytes:
        return as_int16(as_mono(pcm)).tobytes()

    def finish(self) -> bytes:
        return b""


class Wav(Samples):
    """Samples after a header that says "to the end"; the correction says how many."""

    _num_samples = 0
    _begun = False

    def push(self, pcm: Pcm) -> bytes:
        self._num_samples += len(pcm)
        return self._header() + super().push(pcm)

    def finish(self) -> bytes:
        header = wav_header(self._num_samples, sample_rate=self._rate)
        self.corrections = [(0, header)]
        return self._header()

    def _header(self) -> bytes:
        begun, self._begun = self._begun, True
        return b"" if begun else wav_header(None, sample_rate=self._rate)


class _Output:
    """The file that libsndfile writes to: a tape, and later corrections to it."""

    def __init__(self) -> None:
        self.tape = bytearray()  # not taken yet
        self.corrections: list[tuple[int, bytes]] = []
        self._at = self._end = 0

    def write(self, data: Any) -> int:
        data = bytes(data)
        if self._at == self._end:
            self.tape += data
            self._end += len(data)
        else:
            self.corrections.append((self._at, data))
        self._at += len(data)
        return len(data)

    def take(self) -> bytes:
        taken, self.tape = bytes(self.tape), bytearray()
        return taken

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._end)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        pass

    def read(self, _size: int = -1) -> bytes:
        return b""  # libsndfile asks whether it could


class BySoundfile:
    """The formats that libsndfile writes.

    Args:
        kind: libsndfile's names of the format and of the encoding.
    """

    def __init__(self, kind: tuple[str, str], sample_rate: int):
        import soundfile

        self._out = _Output()
        self.corrections = self._out.corrections
        tape: Any = self._out
        try:
            self._file = soundfile.SoundFile(
                *(tape, "w", sample_rate, 1, kind[1]), format=kind[0]
            )
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"{kind[0]} cannot hold sound of {sample_rate} Hz: {error.error_string}"
            ) from error

    def push(self, pcm: Pcm) -> bytes:
        self._file.write(np.clip(as_mono(pcm), -1.0, 1.0))
        self._file.flush()
        return self._out.take()

    def finish(self) -> bytes:
        self._file.close()
        return self._out.take()


class Opus:
    """An Ogg-Opus stream, a page for each 40 ms.

    sphn's header tells players to skip the first 80 ms (its pre-skip), though Opus is
    only 6.5 ms late. So a frame of silence goes before the sound, to be skipped, and
    one after it, for the delay.
    """

    def __init__(self, sample_rate: int):
        import sphn

        self.corrections: list[tuple[int, bytes]] = []
        try:
            self._sphn = sphn.OpusStreamWriter(sample_rate)
        except ValueError as error:
            raise AudioError(
                f"Opus cannot hold sound of {sample_rate} Hz: resample it to 24000."
            ) from error
        self._size = FRAME * sample_rate // SAMPLE_RATE
        self._rest = np.zeros(self._size, np.float32)

    def push(self, pcm: Pcm) -> bytes:
        loud = np.clip(as_mono(pcm), -1.0, 1.0)
        self._rest = np.concatenate([self._rest, loud])
        whole = len(self._rest) // self._size * self._size
        frames = self._rest[:whole].reshape(-1, self._size)
        self._rest = self._rest[whole:]
        return b"".join(bytes(self._sphn.append_pcm(frame)) for frame in frames)

    def finish(self) -> bytes:
        last = -len(self._rest) % self._size
        return self.push(np.zeros(last + self._size, np.float32))


class Aac:
    """AAC in ADTS frames, by FFmpeg's libraries.

    Raises: ConfigError that names the extra, if PyAV is not installed.
    """

    def __init__(self, sample_rate: int):
        require("av", "writing AAC", ", or choose mp3, opus, flac or wav")
        import av

        self.corrections: list[tuple[int, bytes]] = []
        self._out = _Output()
        self._container = av.open(self._out, "w", format="adts")
        self._stream = self._container.add_stream("aac", rate=sample_rate)
        self._stream.layout = "mono"
        self._rate = sample_rate

    def push(self, pcm: Pcm) -> bytes:
        import av

        loud = np.ascontiguousarray(np.clip(as_mono(pcm), -1.0, 1.0)[None])
        if not loud.size:  # FFmpeg reports it as a lack of memory
            return b""
        frame = av.AudioFrame.from_ndarray(loud, format="fltp", layout="mono")
        frame.sample_rate = self._rate
        self._container.mux(self._stream.encode(frame))
        return self._out.take()

    def finish(self) -> bytes:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._out.take()


@dataclass(frozen=True)
class SoundFormat:
    """A way to write sound.

    Attributes:
        media_type: its name on the web.
        make: an encoder for a sample rate in Hz.
        suffixes: of files; none for a format that is not used in files.
    """

    media_type: str
    make: Callable[[int], Encoder]
    suffixes: tuple[str, ...] = ()


_MP3 = "MP3", "MPEG_LAYER_III"
_FLAC = "FLAC", "PCM_16"
FORMATS: dict[str, SoundFormat] = {
    "mp3": SoundFormat("audio/mpeg", lambda hz: BySoundfile(_MP3, hz), (".mp3",)),
    "opus": SoundFormat("audio/ogg", Opus, (".opus", ".ogg")),
    "aac": SoundFormat("audio/aac", Aac, (".aac",)),
    "flac": SoundFormat("audio/flac", lambda hz: BySoundfile(_FLAC, hz), (".flac",)),
    "wav": SoundFormat("audio/wav", Wav, (".wav",)),
    "pcm": SoundFormat("audio/pcm", Samples),
}
# The formats of files other than WAV, by the ending of their names.
PACKED = {
    suffix: name
    for name, format_ in FORMATS.items()
    for suffix in format_.suffixes
    if name != "wav"
}


def encoded(pcm: Pcm, name: str, sample_rate: int = SAMPLE_RATE) -> bytes:
    """A whole sound ``[S]`` as the bytes of a file, its header exact.

    Args:
        name: of one of ``FORMATS``.
    """
    encoder = FORMATS[name].make(sample_rate)
    data = bytearray(encoder.push(pcm) + encoder.finish())
    for place, right in encoder.corrections:
        data[place : place + len(right)] = right
    return bytes(data)
