"""Cut a stream of sound into the codec's frames, and queue frames for a loudspeaker."""

import math
import threading

import numpy as np

from .samples import as_mono

SAMPLE_RATE = 24_000  # Hz, of every Mimi
FRAME = 1920  # samples: 80 ms at 24 kHz, one step of the models
FRAME_MS = 1000 * FRAME / SAMPLE_RATE  # 80: a frame that takes longer is late


def rms(pcm: np.ndarray) -> float:
    """Root mean square of samples ``[S]``: 1 is full scale; 0 for no samples."""
    return math.sqrt(float(pcm @ pcm) / len(pcm)) if len(pcm) else 0.0


class Framer:
    """Cuts blocks of any size into whole frames.

    Args:
        size: samples in a frame.
    """

    def __init__(self, size: int = FRAME):
        self.size = size
        self._rest = np.zeros(0, np.float32)

    @property
    def pending(self) -> int:
        """Number of samples that wait for the rest of their frame."""
        return len(self._rest)

    def push(self, pcm: np.ndarray) -> list[np.ndarray]:
        """Add ``pcm [S]``, any S; returns the frames ``[size]`` that it completes."""
        pcm = np.concatenate([self._rest, as_mono(pcm)])
        whole = len(pcm) // self.size * self.size
        self._rest = pcm[whole:]
        return list(pcm[:whole].reshape(-1, self.size))

    def flush(self) -> np.ndarray | None:
        """The unfinished frame, padded with silence; None if there is none."""
        if not self.pending:
            return None
        frame = np.pad(self._rest, (0, self.size - self.pending))
        self._rest = frame[:0]
        return frame


class PlaybackRing:
    """A queue of samples between a model's thread and a sound card's callback.

    Its size is fixed. If the writer is too fast, the oldest samples are dropped; if it
    is too slow, the reader gets silence. Both are counted.

    Args:
        capacity: samples that it can hold.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.dropped = 0  # samples that were never heard
        self.missing = 0  # samples of silence that were heard instead
        self._buffer = np.zeros(capacity, np.float32)
        self._start = 0
        self._filled = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Samples waiting to be heard."""
        return self._filled

    def write(self, pcm: np.ndarray) -> None:
        """Append ``pcm [S]``; if there is no room, the oldest samples are dropped."""
        pcm = as_mono(pcm)
        with self._lock:
            excess = max(0, self._filled + len(pcm) - self.capacity)
            self.dropped += excess
            pcm = pcm[-self.capacity :]
            self._skip(min(excess, self._filled))
            end = (self._start + self._filled) % self.capacity
            first = min(len(pcm), self.capacity - end)
            self._buffer[end : end + first] = pcm[:first]
            self._buffer[: len(pcm) - first] = pcm[first:]
            self._filled += len(pcm)

    def read(self, num_samples: int) -> np.ndarray:
        """The next ``[num_samples]``, silence if nothing is left."""
        out = np.zeros(num_samples, np.float32)
        with self._lock:
            count = min(num_samples, self._filled)
            first = min(count, self.capacity - self._start)
            out[:first] = self._buffer[self._start : self._start + first]
            out[first:count] = self._buffer[: count - first]
            self._skip(count)
            self.missing += num_samples - count
        return out

    def _skip(self, count: int) -> None:
        self._start = (self._start + count) % self.capacity
        self._filled -= count
