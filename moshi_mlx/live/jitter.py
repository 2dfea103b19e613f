"""Playback that stays close behind the model, and never clicks."""

import threading
from collections import deque

import numpy as np

from ..audio.framing import FRAME, SAMPLE_RATE
from ..audio.samples import Pcm
from ..utils.trace import percentile

_FRAME_S = FRAME / SAMPLE_RATE
_HISTORY = 125  # frames: jitter is judged by the last 10 s
_MOST_JITTER_S = 0.9 * _FRAME_S  # below a frame, whatever happens
_FIRST_JITTER_S = 0.01  # before anything has been measured
_SPARE_S = 0.015  # above the target that is not worth shortening
_MOST_S = 4 * _FRAME_S  # above this, sound is dropped at once
_TAIL_S = 0.04  # how long a gap is filled with the sound before it
_EDGE_S = 0.004  # fades
_PITCH_S = (0.0025, 0.0125)  # periods of voices between 80 and 400 Hz
_QUIET = 3e-3  # peak below which a cut is not heard


class JitterBuffer:
    """Between the model, which answers when it can, and the device, which never waits.

    One thread writes, another reads. Each frame is played so long after it was heard
    that 95 % of the frames of the last 10 s were in time. If a frame comes even later,
    the last period of the voice is repeated and faded out, and the next sound fades in.
    If more sound has gathered, silence is shortened, or one period of the voice is
    removed at a time.

    Args:
        rate: of the device, in Hz.
        block_s: how much the device takes at a time, in seconds.
    """

    def __init__(self, rate: int, block_s: float):
        self.rate = rate
        self.gaps = 0  # times the device ran out in the middle of sound
        self.missing = 0  # samples that it asked for and did not get
        self.shortened = 0  # samples left out to catch up
        self.jitter_s = _FIRST_JITTER_S  # p95 of how much later than the rest
        self._base_s: float | None = None  # lag of the earliest frames
        self._block_s = block_s
        self._lags: deque[float] = deque(maxlen=_HISTORY)
        self._excess: deque[float] = deque(maxlen=12)  # excess of 1 s each
        self._lock = threading.Lock()
        self._sound: Pcm = np.zeros(0, np.float32)
        self._tail: Pcm = np.zeros(0, np.float32)
        self._starved = True  # the device has run out, or has not started

    @property
    def waiting_s(self) -> float:
        """Sound that is still to be played."""
        return len(self._sound) / self.rate

    @property
    def target_s(self) -> float:
        """How long the earliest frames wait here."""
        return self.jitter_s + self._block_s

    def write(self, pcm: Pcm, lag_s: float) -> None:
        """Append a frame's sound ``[S]``.

        Args:
            lag_s: how long ago the frame that it answers was heard, in seconds.
        """
        self._judge(lag_s)
        base_s = lag_s if self._base_s is None else self._base_s
        wait_s = min(max(base_s + self.target_s - lag_s, 0.0), self.target_s)
        with self._lock:
            left = len(self._sound)
            if self._starved:
                pcm = self._resume(pcm, self._samples(wait_s))
            else:
                self._excess.append(left / self.rate - wait_s)
            sound = np.concatenate([self._sound, pcm])
            if len(self._excess) > 4 and min(self._excess) > _SPARE_S:
                sound = self._shorten(sound, left, self._samples(min(self._excess)))
            sound = self._bound(sound)
            self._sound = sound
            self._tail = conceal(sound, self.rate)

    def read(self, num_samples: int) -> Pcm:
        """The next ``[num_samples]``; a gap is filled, then silent."""
        with self._lock:
            if self._starved and not len(self._tail):
                self.missing += num_samples
                return np.zeros(num_samples, np.float32)
            out, self._sound = self._sound[:num_samples], self._sound[num_samples:]
            lacking = num_samples - len(out)
            if not lacking:
                return out
            if not self._starved:
                self.gaps += bool(np.abs(self._tail).max(initial=0) >= _QUIET)
                self._starved = True
            self.missing += lacking
            fill, self._tail = self._tail[:lacking], self._tail[lacking:]
            rest = np.zeros(lacking - len(fill), np.float32)
            return np.concatenate([out, fill, rest])

    def clear(self) -> None:
        """Fade out at once, as when a conversation starts again."""
        with self._lock:
            self._tail = fade_out(self._sound[: self._samples(_EDGE_S)])
            self._sound = self._sound[:0]
            self._starved = True
            self._excess.clear()

    def _samples(self, seconds: float) -> int:
        return round(seconds * self.rate)

    def _judge(self, lag_s: float) -> None:
        """Learn how late frames come."""
        self._lags.append(lag_s)
        if len(self._lags) < 8:
            return
        self._base_s = percentile(self._lags, 5)
        late_s = percentile(self._lags, 95) - self._base_s
        self.jitter_s = min(late_s, _MOST_JITTER_S)

    def _resume(self, pcm: Pcm, wait: int) -> Pcm:
        """Sound after a gap: what is left to wait, then a fade in."""
        self._starved = False
        self._excess.clear()
        fill = self._tail[:wait]
        silence = np.zeros(wait - len(fill), np.float32)
        return np.concatenate([fill, silence, fade_in(pcm, self._samples(_EDGE_S))])

    def _shorten(self, sound: Pcm, begin: int, most: int) -> Pcm:
        """``sound`` without up to ``most`` samples after ``begin``."""
        new = sound[begin:]
        cut = cut_silence(new, most, self._samples(_EDGE_S))
        if cut is None:
            cut = cut_period(new, self.rate)
        removed = len(new) - len(cut)
        self.shortened += removed
        for i in range(len(self._excess)):
            self._excess[i] -= removed / self.rate
        return np.concatenate([sound[:begin], cut])

    def _bound(self, sound: Pcm) -> Pcm:
        """Never hold more than a fixed time of sound: the oldest is dropped."""
        excess = len(sound) - self._samples(_MOST_S)
        if excess <= 0:
            return sound
        self.shortened += excess
        return fade_in(sound[excess:], self._samples(_EDGE_S))


def fade_in(pcm: Pcm, edge: int) -> Pcm:
    """``pcm`` with a linear fade-in over its first ``edge`` samples."""
    pcm = pcm.copy()
    edge = min(edge, len(pcm))
    pcm[:edge] *= np.linspace(0, 1, edge, endpoint=False, dtype=np.float32)
    return pcm


def fade_out(pcm: Pcm) -> Pcm:
    """``pcm`` faded out over its whole length."""
    return pcm * np.linspace(1, 0, len(pcm), dtype=np.float32)


def period_of(pcm: Pcm, rate: int) -> int:
    """The lag in samples at which ``pcm`` is most similar to itself, a voice's
    period."""
    shortest, longest = (round(s * rate) for s in _PITCH_S)
    if len(pcm) < 2 * longest:
        return 0
    step = max(1, rate // 8000)  # a coarse look is enough, and cheap
    coarse = pcm[-2 * longest :: step].astype(np.float64)
    last = coarse[-(longest // step) :]
    lags = np.arange(shortest // step, longest // step)
    past = coarse[-len(last) - lags[-1] : -lags[0]]  # the longest lag comes first
    # Many short products: for large ones BLAS starts threads, which spin and wait for
    # each other. On a busy machine that took half of this thread's time.
    alike = np.correlate(past, last, "valid")
    energy = np.sqrt(np.correlate(past**2, np.ones_like(last), "valid")) + 1e-9
    return int(lags[np.argmax((alike / energy)[::-1])]) * step


def conceal(pcm: Pcm, rate: int) -> Pcm:
    """A continuation of ``pcm``: its last period again and again, fading out."""
    recent = pcm[-round(2 * _PITCH_S[1] * rate) :]
    if np.abs(recent).max(initial=0) < _QUIET:
        return recent[:0]
    period = period_of(recent, rate)
    if not period:
        return np.zeros(0, np.float32)
    length = round(_TAIL_S * rate)
    return fade_out(np.resize(recent[-period:], length))


def cut_silence(pcm: Pcm, most: int, edge: int) -> Pcm | None:
    """``pcm`` without up to ``most`` samples of a quiet start or end; None if loud."""
    if np.abs(pcm).max(initial=0.0) < _QUIET:
        return pcm[: max(len(pcm) - most, 0)]
    loud = np.flatnonzero(np.abs(pcm) >= _QUIET)
    first, last = int(loud[0]), int(loud[-1])
    if (spare := first - edge) > edge:
        return pcm[min(most, spare) :]
    if (spare := len(pcm) - last - edge) > edge:
        return pcm[: len(pcm) - min(most, spare)]
    return None


def cut_period(pcm: Pcm, rate: int) -> Pcm:
    """``pcm`` without one period of its voice, cross-faded: shorter, at the same
    pitch."""
    period = period_of(pcm[: round(2 * _PITCH_S[1] * rate)], rate)
    if not period or len(pcm) < 2 * period:
        return pcm
    mix = fade_out(pcm[:period]) + fade_in(pcm[period : 2 * period], period)
    return np.concatenate([mix, pcm[2 * period :]])
