"""Listening to a sound while it comes, from a microphone say."""

import numpy as np

from ...audio.samples import as_mono
from .events import Event
from .model import Listening, Pcm, Recogniser
from .rows import Frame, is_loud


class STTSession:
    """One sound, of any length; its state does not grow.

    Args:
        stt: the model.
        listening: how it listens.
    """

    def __init__(self, stt: Recogniser, listening: Listening):
        self.stt = stt
        self._listening = listening
        self.reset()

    def reset(self) -> None:
        """Forget everything: what comes next is another sound, from second 0."""
        stt = self.stt
        self._rows = stt.rows(1, self._listening)
        self._codec_state = stt.mimi.make_state()
        self._rest = self._listening.before
        self._heard = 0  # samples that were given
        self._at = -len(self._rest)  # sample with which the next frame begins

    @property
    def time_s(self) -> float:
        """Of sound so far."""
        return self._heard / self.stt.sample_rate

    @property
    def refreshes(self) -> int:
        """How often the model was made to listen afresh."""
        return self._rows.refreshes

    @property
    def nbytes(self) -> int:
        """Bytes of state: the same after an hour as after a minute."""
        return self._rows.nbytes + self._codec_state.nbytes

    def feed(self, pcm: Pcm) -> list[Event]:
        """Take ``pcm [S]``, any S, at the model's rate; returns what was noticed.

        Raises: AudioError for other shapes, and for samples that are neither float32
            nor int16 nor int32.
        """
        pcm = as_mono(pcm)
        self._heard += len(pcm)
        return self._take(pcm)

    def flush(self) -> list[Event]:
        """Make the model write all that was said so far; then more may come.

        It is given silence for that, which takes no time in the words' times.
        """
        events: list[Event] = []
        size = self.stt.mimi.frame_size
        if len(self._rest):
            events += self._take(np.zeros(size - len(self._rest), np.float32))
        self._at = self._heard
        for _ in range(self.stt.flush_frames):
            events += self._take(np.zeros(size, np.float32))
            self._at = self._heard
        return events + self._rows.finish(0)

    def _take(self, pcm: Pcm) -> list[Event]:
        size, rate = self.stt.mimi.frame_size, self.stt.sample_rate
        pcm = np.concatenate([self._rest, pcm])
        whole = len(pcm) // size * size
        self._rest = pcm[whole:]
        events: list[Event] = []
        for start in range(0, whole, size):
            part = pcm[start : start + size]
            codes = self.stt.encode(part[None, None], self._codec_state)[0, :, 0]
            times = [min(max(at, 0), self._heard) / rate for at in self._span(size)]
            frame = Frame(codes, times[0], times[1], is_loud(part))
            self._rows.rows[0].waiting.append(frame)
            while self._rows.waiting:
                events += self._rows.step()[0]
        return events

    def _span(self, size: int) -> tuple[int, int]:
        """First sample of the next frame, and the one after it."""
        self._at += size
        return self._at - size, self._at
