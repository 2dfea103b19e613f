"""Read any sound file at the models' rate; write WAV that survives a kill."""

import logging
import struct
from pathlib import Path
from types import TracebackType

import numpy as np

from ..errors import AudioError
from .framing import SAMPLE_RATE
from .resample import resample

_log = logging.getLogger(__name__)

_EXACT_LENGTH = (b"RIFF", b"fLaC", b"FORM", b"caff")  # their headers do not estimate
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")  # RIFF, its one format chunk, data
_MAX_UINT32 = 2**32 - 1
_OTHER_FORMATS = {".aac", ".flac", ".m4a", ".mp3", ".mp4", ".ogg", ".opus"}
_OTHER_FORMATS |= {".html", ".json", ".srt", ".txt", ".vtt"}  # what goes beside sound
_STREAMED = (
    0x7FFF_0000  # RIFF sizes from here on mean "not known when this was written"
)


def read(
    path: str | Path, sample_rate: int = SAMPLE_RATE, mono: bool = True
) -> np.ndarray:
    """A sound file as float32 ``[C, S]``; C is 1 with ``mono`` (the channels' mean).

    Args:
        path: wav, mp3, flac, ogg (Vorbis, Opus), aac, aiff, caf or mkv.
        sample_rate: of the result, in Hz; other rates are resampled.

    Raises: AudioError for what is missing, damaged, empty, or no sound file.
    """
    path = Path(path)
    pcm, source_rate = _decode(path, _head(path))
    if not pcm.size:
        raise AudioError(f"{path} holds no sound: record or export it again.")
    check_samples(path, pcm)
    if mono:
        pcm = pcm.mean(axis=0, keepdims=True, dtype=np.float32)
    return resample(pcm, source_rate, sample_rate)


def check_samples(path: Path, pcm: np.ndarray) -> None:
    """Raises: AudioError for samples that are no numbers."""
    if not np.isfinite(pcm).all():
        raise AudioError(
            f"{path} holds samples that are no numbers (NaN or infinite): "
            "export it again, as 16-bit PCM if you can."
        )


def _head(path: Path) -> bytes:
    """The first bytes of a file that is there and can be opened."""
    if str(path) == "-":
        raise AudioError(
            "sound cannot be read from standard input (-): name a sound file."
        )
    if path.is_dir():
        raise AudioError(f"{path} is a folder: name one sound file in it.")
    if not path.exists():
        raise AudioError(f"there is no file {path}: check the name and the folder.")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise AudioError(f"{path} cannot be opened: {error.strerror}.") from error
    if not head:
        raise AudioError(f"{path} is an empty file: record or download it again.")
    return head


def _decode(path: Path, head: bytes) -> tuple[np.ndarray, int]:
    """Samples ``[C, S]`` at the file's own rate, and that rate in Hz."""
    import sphn

    try:
        if b"OpusHead" in head:
            return sphn.read_opus(str(path))
        reader = sphn.FileReader(str(path))
        pcm = reader.decode_all()
    except Exception as error:
        raise _not_sound(path, head, error) from error
    except BaseException as error:  # a Rust panic is no Exception
        if type(error).__name__ != "PanicException":
            raise
        raise _not_sound(path, head, error) from error
    _check_length(path, head, pcm.shape[1] / reader.sample_rate, reader.duration_sec)
    return pcm, reader.sample_rate


def _not_sound(path: Path, head: bytes, error: BaseException) -> AudioError:
    if head[4:8] == b"ftyp":
        return AudioError(
            f"{path} is an MPEG-4 file (m4a, mp4), which cannot be read: convert it "
            f"with 'ffmpeg -i {path} {path.with_suffix('.wav')}', or on a Mac with "
            f"'afconvert -f WAVE -d LEI16 {path} {path.with_suffix('.wav')}'."
        )
    reason = str(error).split(": ", 1)[-1]
    return AudioError(
        f"{path} is not a sound file that can be read, or its beginning is damaged "
        f"({reason}): wav, mp3, flac, ogg, opus, aac, aiff and caf can."
    )


def _check_length(path: Path, head: bytes, got_s: float, claimed_s: float) -> None:
    """Refuse a file that ends before its header says; other formats only estimate."""
    if got_s > 0.98 * claimed_s or got_s > claimed_s - 0.1:
        return
    exact = head.startswith(_EXACT_LENGTH)
    if head[:4] == b"RIFF" and struct.unpack_from("<I", head, 4)[0] >= _STREAMED:
        return
    said = f"{path} ends after {got_s:.1f} s, its header promises {claimed_s:.1f} s"
    if exact:
        raise AudioError(f"{said}: it is truncated, copy or download it again.")
    _log.warning("%s", said)


def write_wav(
    path: str | Path, pcm: np.ndarray, sample_rate: int = SAMPLE_RATE
) -> None:
    """Write ``pcm``, ``[S]`` or ``[C, S]`` in -1..1, as a 16-bit WAV file."""
    channels = 1 if pcm.ndim == 1 else pcm.shape[0]
    with WavWriter(path, channels, sample_rate) as file:
        file.write(pcm)


def make_folder(path: Path) -> None:
    """Make a folder for files to be written, where it is not there.

    Raises: AudioError where that cannot be.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioError(
            f"the folder {path} cannot be made: {error.strerror}. Choose another place."
        ) from error


def check_wav_name(path: Path) -> None:
    """Raise AudioError for the name of something else than a WAV file."""
    if str(path) == "-":
        raise AudioError(
            "sound cannot be written to standard output (-): name a WAV file."
        )
    if path.suffix.lower() in _OTHER_FORMATS:
        raise AudioError(
            f"{path} cannot be written, only WAV can: name it "
            f"{path.with_suffix('.wav')}."
        )


class WavWriter:
    """A 16-bit WAV file that is whole after every write, even if the process is killed.

    Past 4 GiB (12 hours in stereo) the header says "to the end of the file", which
    players understand.

    Args:
        path: file to write; its folder must exist.
        channels: channels of every block that is written.
        sample_rate: in Hz.

    Raises: AudioError where the file cannot be written.
    """

    def __init__(
        self, path: str | Path, channels: int = 1, sample_rate: int = SAMPLE_RATE
    ):
        self.path = Path(path)
        self.channels = channels
        self.sample_rate = sample_rate
        self.num_samples = 0  # of each channel
        check_wav_name(self.path)
        try:
            self._file = self.path.open("wb")
        except OSError as error:
            raise self._unwritable(error) from error
        self._put(0, self._header())

    @property
    def duration_s(self) -> float:
        """What has been written so far, in seconds."""
        return self.num_samples / self.sample_rate

    def write(self, pcm: np.ndarray) -> None:
        """Append ``pcm [C, S]`` (or ``[S]``) in -1..1; louder samples are clipped."""
        block = np.atleast_2d(pcm)
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise AudioError(
                f"{self.path} has {self.channels} channel(s), so it cannot take sound "
                f"of the shape {list(pcm.shape)}: give [channels, samples]."
            )
        loud = np.clip(block, -1.0, 1.0) * 32767.0
        self._put(_HEADER.size + self._size(), np.rint(loud.T).astype("<i2").tobytes())
        self.num_samples += block.shape[1]
        self._put(0, self._header())  # after the sound: it never promises too much

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "WavWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _size(self) -> int:
        return self.num_samples * self.channels * 2

    def _header(self) -> bytes:
        size, frame = self._size(), self.channels * 2
        return _HEADER.pack(
            *(b"RIFF", min(size + 36, _MAX_UINT32), b"WAVE"),
            *(b"fmt ", 16, 1, self.channels, self.sample_rate),
            *(self.sample_rate * frame, frame, 16),
            *(b"data", min(size, _MAX_UINT32)),
        )

    def _put(self, at: int, data: bytes) -> None:
        try:
            self._file.seek(at)
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> AudioError:
        return AudioError(
            f"{self.path} cannot be written: {error.strerror}. Choose another place or "
            "make room."
        )
