"""Hours of sound from a WAV file, a piece at a time instead of all at once."""

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AudioError
from .files import check_samples, read
from .framing import SAMPLE_RATE
from .resample import Resampler

LONG_S = 600.0  # from here on a file is read while it is worked on
PIECE_S = 10  # whole seconds, so that pieces meet exactly


class LongWav:
    """A WAV file as mono float32 ``[S]``, read as it is needed.

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
        """Samples ``[start:stop]`` of the whole sound, both at least 0."""
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
        pcm = self._reader.decode(self._read_s, PIECE_S)
        self._read_s += PIECE_S
        check_samples(self._path, pcm)
        mono = pcm.mean(axis=0, keepdims=True, dtype=np.float32)
        new = self._resampler.push(mono)[0]
        if self._read_s * self._source_rate < self._source_samples:
            return new
        return np.concatenate([new, self._resampler.flush()[0]])


def open_sound(
    path: str | Path, sample_rate: int = SAMPLE_RATE
) -> "np.ndarray | LongWav":
    """A sound file as mono float32 ``[S]``; a long WAV file is not loaded.

    Raises: AudioError as ``read``; for a long file what is wrong in its middle is found
        when it is reached.
    """
    path = Path(path)
    reader = _long_reader(path)
    return (
        read(path, sample_rate)[0]
        if reader is None
        else LongWav(path, reader, sample_rate)
    )


def _long_reader(path: Path) -> Any:
    """A reader of a whole, long WAV file; None for every other one."""
    import sphn

    try:
        with path.open("rb") as file:
            if file.read(4) != b"RIFF":
                return None
        reader = sphn.FileReader(str(path))
        end_s, rate = int(reader.duration_sec), reader.sample_rate
        if end_s < LONG_S or reader.decode(end_s - 1, 1).shape[1] < rate:
            return None
    except (OSError, ValueError, AudioError):  # ``read`` says what is wrong
        return None
    return reader
