"""Hours of sound from a file, a piece at a time instead of all at once."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import AudioError
from .files import check_samples, read
from .framing import FRAME, SAMPLE_RATE
from .resample import Resampler

_log = logging.getLogger(__name__)

LONG_S = 600.0  # from here on a file is read while it is worked on
PIECE_S = 10  # whole seconds, so that pieces meet exactly
LEAD_S = 1  # decoded before a piece and dropped: MP3 frames need those before them
ROUNDING = 2  # samples


class LongSound:
    """A WAV, FLAC or MP3 file as mono float32 ``[S]``, read as it is needed.

    Slices must come in order: what lies before the newest one is forgotten.

    Args:
        path: of the file.
        reader: an open ``sphn.FileReader`` of it.
        sample_rate: of the result, in Hz.
    """

    def __init__(self, path: Path, reader: Any, sample_rate: int):
        self._path = path
        self._reader = reader
        self._source_rate = int(reader.sample_rate)
        self._source_samples = round(reader.duration_sec * self._source_rate)
        self._resampler = Resampler(self._source_rate, sample_rate)
        self._length = -(-self._source_samples * sample_rate // self._source_rate)
        self._read_s = 0
        self._ahead = np.zeros(0, np.float32)
        self._at = 0  # sample with which ``_ahead`` begins

    def __len__(self) -> int:
        return self._length

    @property
    def held(self) -> int:
        """Samples in memory."""
        return len(self._ahead)

    def __getitem__(self, part: slice) -> np.ndarray:
        """Samples ``[start:stop]`` of the whole sound, both at least 0.

        Raises: AudioError where the file turns out to be damaged.
        """
        start, stop = part.start or 0, len(self) if part.stop is None else part.stop
        stop = min(stop, len(self))
        if start < self._at:
            raise ValueError("a long recording can only be read forwards.")
        while self._at + len(self._ahead) < stop:
            self._ahead = np.concatenate([self._ahead, self._next()])
            forgotten = min(max(start - self._at, 0), len(self._ahead))
            self._ahead = self._ahead[forgotten:]
            self._at += forgotten
        return self._ahead[start - self._at : max(stop, start) - self._at]

    def _next(self) -> np.ndarray:
        pcm = self._decode(self._read_s)
        self._read_s += PIECE_S
        check_samples(self._path, pcm)
        mono = pcm.mean(axis=0, keepdims=True, dtype=np.float32)
        new = self._resampler.push(mono)[0]
        if self._read_s * self._source_rate < self._source_samples:
            return new
        return np.concatenate([new, self._resampler.flush()[0]])

    def _decode(self, at_s: int) -> np.ndarray:
        """The piece ``[C, S]`` that begins at a second."""
        first, lead_s = at_s * self._source_rate, min(LEAD_S, at_s)
        wanted = min(PIECE_S * self._source_rate, self._source_samples - first)
        damaged = f"{self._path} is damaged near {at_s // 60}:{at_s % 60:02}"
        try:
            pcm = self._reader.decode(at_s - lead_s, lead_s + PIECE_S)
        except ValueError as error:
            raise AudioError(f"{damaged}: copy or export it again.") from error
        pcm = pcm[:, lead_s * self._source_rate :][:, :wanted]
        missing = wanted - pcm.shape[1]
        if missing > ROUNDING:
            _log.warning("%s, some of it is silence here", damaged)
        return np.pad(pcm, ((0, 0), (0, missing)))


def open_sound(
    path: str | Path, sample_rate: int = SAMPLE_RATE
) -> "np.ndarray | LongSound":
    """A sound file as mono float32 ``[S]``; a long WAV, FLAC or MP3 is not loaded.

    Raises: AudioError as ``read``; for a long file what is wrong in its middle is found
        when it is reached.
    """
    path = Path(path)
    reader = _long_reader(path)
    return (
        read(path, sample_rate)[0]
        if reader is None
        else LongSound(path, reader, sample_rate)
    )


def frames(path: str | Path) -> Iterator[np.ndarray]:
    """A sound file as mono frames ``[1920]`` at 24 kHz, the last filled with silence.

    A file that is none raises here, not at the first frame; of a long one only a piece
    is in memory, see ``open_sound``.
    """
    return _frames(open_sound(path))


def _frames(sound: "np.ndarray | LongSound") -> Iterator[np.ndarray]:
    for at in range(0, len(sound), FRAME):
        frame = sound[at : at + FRAME]
        yield np.pad(frame, (0, FRAME - len(frame)))


def _long_reader(path: Path) -> Any:
    """A reader of a long file that can be read in pieces; None for every other one."""
    import sphn

    try:
        with path.open("rb") as file:
            if not _has_places(file):
                return None
        reader = sphn.FileReader(str(path))
        if reader.duration_sec < LONG_S:
            return None
        # the end must lie where it is said to: MP3s may only estimate it
        last = reader.decode(reader.duration_sec - 1, 2).shape[1]
    except (OSError, ValueError):  # ``read`` says what is wrong
        return None
    except BaseException as error:  # a Rust panic is no Exception
        if type(error).__name__ != "PanicException":
            raise
        return None
    return reader if abs(last - reader.sample_rate) <= ROUNDING else None


def _has_places(file: BinaryIO) -> bool:
    """Whether it is WAV, FLAC or MP3, in which any second is found to the sample."""
    head = file.read(10)
    if head[:3] == b"ID3":  # the size of these tags is 4 x 7 bits
        size = sum(
            byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)
        )
        file.seek(10 + size)
        head = file.read(10)
    mp3 = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2  # layer III
    return mp3 or head[:4] in (b"RIFF", b"fLaC")
