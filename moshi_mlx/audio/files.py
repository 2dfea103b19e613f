"""Read any sound file at the models' rate; write WAV that survives a kill."""

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..errors import AudioError
from .encode import PACKED, WAV_HEADER, wav_header
from .framing import SAMPLE_RATE
from .inputs import SoundLike
from .opening import OpenedSound
from .resample import resample
from .samples import as_float, as_int16, fault, mixed

F = TypeVar("F", bound="SoundFile")
NO_SOUND = {".html", ".json", ".srt", ".txt", ".vtt"}  # files beside a sound
# and sound that we do not write
NO_SOUND |= {".m4a", ".m4b", ".mp4", ".webm", ".mka", ".wma", ".amr", ".caf", ".au"}
NO_SOUND |= {".oga", ".aif", ".aiff", ".aifc", ".mpeg", ".mpga", ".mp2", ".w64"}
_OTHER_FORMATS = {*PACKED, *NO_SOUND}


def read(
    sound: SoundLike, sample_rate: int = SAMPLE_RATE, mono: bool = True
) -> np.ndarray:
    """Read a sound as float32 ``[C, S]``; with ``mono`` C is 1 (see ``mixed``).

    Args:
        sound: the path of a sound file; "-" for standard input; a pipe; the
            bytes of a file; or a file that is open for reading.
        sample_rate: of the result, in Hz; other rates are resampled.

    Raises: AudioError if the file is missing, empty or not a sound, or if it contains
        NaN. A damaged file is read as far as possible, with a warning in the log.
    """
    source = OpenedSound(sound)
    blocks = [(mixed(pcm) if mono else pcm, rate) for pcm, rate in source.blocks()]
    return joined(source.name, blocks, sample_rate)


def joined(
    name: str, blocks: list[tuple[np.ndarray, int]], sample_rate: int
) -> np.ndarray:
    """Blocks ``[C, S]`` and their rates as one sound ``[C, S]`` at ``sample_rate``."""
    parts: list[np.ndarray] = []
    for rate, same in groupby(blocks, key=lambda block: block[1]):
        pcm = np.concatenate([_fitted(pcm, len(blocks[0][0])) for pcm, _ in same], 1)
        if wrong := fault(pcm):
            raise AudioError(
                f"{name} holds samples that {wrong}: export it again, as 16-bit PCM "
                "if you can."
            )
        parts.append(resample(pcm, rate, sample_rate))
    if not sum(part.size for part in parts):
        raise AudioError(f"{name} holds no sound: record or export it again.")
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _fitted(pcm: np.ndarray, channels: int) -> np.ndarray:
    """A block with as many channels as the first one: files may have been joined."""
    if len(pcm) == channels:
        return pcm
    return np.broadcast_to(mixed(pcm), (channels, pcm.shape[1]))


def write_wav(
    path: str | Path, pcm: np.ndarray, sample_rate: int = SAMPLE_RATE
) -> None:
    """Write ``pcm``, ``[S]`` or ``[C, S]``, as a 16-bit WAV file; see ``as_float``."""
    channels = 1 if pcm.ndim == 1 else pcm.shape[0]
    with WavWriter(path, channels, sample_rate) as file:
        file.write(pcm)


def make_folder(path: Path, private: bool = False) -> None:
    """Make a folder for files, if it does not exist.

    Args:
        private: let only its owner look into it.

    Raises: AudioError if it cannot be made.
    """
    try:
        path.mkdir(0o700 if private else 0o777, parents=True, exist_ok=True)
    except OSError as error:
        raise AudioError(
            f"the folder {path} cannot be made: {error.strerror}. Choose another place."
        ) from error


def check_wav_name(path: Path) -> None:
    """Raise AudioError if the name is not that of a WAV file."""
    if str(path) == "-":
        raise AudioError(
            "sound cannot be written to standard output (-): name a WAV file."
        )
    if path.suffix.lower() in _OTHER_FORMATS:
        raise AudioError(
            f"{path} cannot be written, only WAV can: name it "
            f"{path.with_suffix('.wav')}."
        )


class SoundFile:
    """A file that sound is appended to.

    Args:
        path: file to write; its folder must exist.
        sample_rate: in Hz.
        opener: as in ``open``: who may read the file, and whether it must be new.

    Raises: AudioError if the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        sample_rate: int,
        opener: Callable[[str, int], int] | None = None,
    ):
        self.path = path
        self.sample_rate = sample_rate
        self.num_samples = 0  # of each channel
        try:
            self._file = open(path, "wb", opener=opener)  # noqa: SIM115
        except OSError as error:
            raise self._unwritable(error) from error

    @property
    def duration_s(self) -> float:
        """Length of what has been written, in seconds."""
        return self.num_samples / self.sample_rate

    def close(self) -> None:
        try:
            self._file.close()  # tries once more to write what failed
        except OSError as error:
            raise self._unwritable(error) from error

    def __enter__(self: F) -> F:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, data: bytes, at: int | None = None) -> None:
        """Write at the position ``at``, or at the end."""
        try:
            if at is not None:
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


class WavWriter(SoundFile):
    """A 16-bit WAV file that is valid after every write, even if the process is killed.

    Past 4 GiB (12 hours in stereo) the header says "to the end of the file", which
    players understand.

    Args:
        path: file to write; its folder must exist.
        channels: channels of every block that is written.
        sample_rate: in Hz.
        opener: as in ``open``: who may read the file, and whether it must be new.

    Raises: AudioError if the file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        channels: int = 1,
        sample_rate: int = SAMPLE_RATE,
        opener: Callable[[str, int], int] | None = None,
    ):
        self.channels = channels
        check_wav_name(Path(path))
        super().__init__(Path(path), sample_rate, opener)
        self._put(self._header())

    def write(self, pcm: np.ndarray) -> None:
        """Append ``pcm [C, S]`` (or ``[S]``); values beyond -1..1 are clipped."""
        block = np.atleast_2d(as_float(pcm))
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise AudioError(
                f"{self.path} has {self.channels} channel(s), so it cannot take sound "
                f"of the shape {list(np.shape(pcm))}: give [channels, samples]."
            )
        self._put(as_int16(block.T).tobytes(), WAV_HEADER.size + self._size())
        self.num_samples += block.shape[1]
        self._put(self._header(), 0)  # after the sound: it never states too much

    def _size(self) -> int:
        return self.num_samples * self.channels * 2

    def _header(self) -> bytes:
        return wav_header(self.num_samples, self.channels, self.sample_rate)
