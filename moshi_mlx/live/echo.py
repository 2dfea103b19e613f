"""Remove Moshi's own voice from the microphone's sound."""

from collections import deque

import numpy as np

from ..audio.framing import SAMPLE_RATE
from ..audio.samples import Pcm
from ..errors import AudioError

_BLOCK = SAMPLE_RATE // 100  # WebRTC works on 10 ms
_NOISE_LEVEL = 2  # WebRTC's "high", of 0..3
_REACH_S = 0.4  # the canceller finds echoes up to this delay on its own
_KEEP_S = 0.06  # part of a longer delay to leave to the canceller, since delays vary
_AHEAD = SAMPLE_RATE // 50  # samples played before their echo is due, at the start
_PATIENCE = 8  # takes until owed samples count as lost
_HISTORY_S = 1.5  # of what was played: the longest delay that can be bridged
_DECIMATE = 3  # the delay is measured at 8 kHz
_WINDOW_S = 2.0  # of sound that a measurement of the delay needs
_MOST_DELAY_S = 1.0
_CLEAR_PEAK = 9.0  # times the correlation's deviation: below, there is no echo
_AGREE_S = 0.003  # two measurements in a row this close are trusted
_FAINT = 1e-5  # rms of the recorded side below which it holds no echo
_AUDIBLE = 1e-3  # rms of played sound above which an echo can be measured


class EchoCanceller:
    """The microphone in, the user's voice alone out, all mono at 24 kHz.

    Played and recorded sound is counted in samples, so the order of the device's
    callbacks does not matter. The delay of the echo is measured (``delay_s``): WebRTC's
    canceller handles the usual delays of devices; longer ones (wireless loudspeakers)
    are bridged here first.

    Args:
        echo: remove the echo.
        noise_suppression: reduce steady noise, by about 6 dB.
        gain_control: bring quiet and loud voices to the same level.

    Raises: AudioError if pywebrtc-audio is not installed.
    """

    def __init__(
        self,
        *,
        echo: bool = True,
        noise_suppression: bool = False,
        gain_control: bool = False,
    ):
        try:
            from pywebrtc_audio import AudioProcessor
        except ImportError as error:
            raise AudioError(
                "echo cancellation needs pywebrtc-audio: pip install pywebrtc-audio, "
                "or go without it (--no-aec)."
            ) from error
        self.slips = 0  # times a device lost or gained time
        self._echo = echo
        self._webrtc = AudioProcessor(
            sample_rate=SAMPLE_RATE,
            echo_cancellation=echo,
            noise_suppression=noise_suppression,
            ns_level=_NOISE_LEVEL,
            auto_gain_control=gain_control,
        )
        self._far = _Played()
        self._near = np.zeros(0, np.float32)
        self._delay = DelayEstimator()
        self._bridged = 0  # samples by which the played side is held back

    @property
    def delay_s(self) -> float | None:
        """From playing to recording, in seconds; None while no echo was heard."""
        return self._delay.delay_s

    def played(self, pcm: Pcm) -> None:
        """Take the loudspeaker's sound ``[S]``, any S, including silence."""
        if self._echo:
            self._far.push(pcm)

    def clean(self, pcm: Pcm) -> Pcm:
        """Take ``pcm [S]``, any S, from the microphone; returns whole 10 ms blocks."""
        near = np.concatenate([self._near, pcm])
        whole = len(near) // _BLOCK * _BLOCK
        near, self._near = near[:whole], near[whole:]
        if not whole:
            return near
        if not self._echo:
            return self._webrtc.process(near)
        far, slipped = self._far.take(whole)
        self.slips += slipped
        if self._delay.look(near, far):
            self._bridge()
        behind = self._far.delayed(whole, self._bridged)
        return self._webrtc.process(near, behind)

    def _bridge(self) -> None:
        """Delay the played side if the echo comes later than WebRTC looks for it."""
        delay_s = self._delay.delay_s or 0.0
        if delay_s > _REACH_S:
            self._bridged = round((delay_s - _KEEP_S) * SAMPLE_RATE)
            self._webrtc.reset()  # its estimates are no longer valid


class _Played:
    """The sound that was played: a queue for the canceller, and its recent past.

    A device takes and gives blocks of its own size, so the queue runs a little ahead.
    Sound that comes too late is replaced by silence, and skipped when it comes. If a
    device has lost time for good, both sides are counted again from there.
    """

    def __init__(self) -> None:
        self._waiting = np.zeros(0, np.float32)
        self._owed = 0  # samples that silence has replaced
        self._owing: deque[int] = deque(maxlen=_PATIENCE)  # after the last takes
        self._ahead: deque[int] = deque(maxlen=4 * _PATIENCE)
        self._begun = False
        self._past = Recent(round(_HISTORY_S * SAMPLE_RATE))

    def push(self, pcm: Pcm) -> None:
        skipped = min(self._owed, len(pcm))
        self._owed -= skipped
        self._waiting = np.concatenate([self._waiting, pcm[skipped:]])

    def take(self, num_samples: int) -> tuple[Pcm, bool]:
        """The next ``[num_samples]``, and whether counting was restarted."""
        if not self._begun:
            self._begun = True
            self._drop(len(self._waiting) - num_samples - _AHEAD)
        out, self._waiting = self._waiting[:num_samples], self._waiting[num_samples:]
        lacking = num_samples - len(out)
        if lacking:
            self._owed += lacking
            out = np.concatenate([out, np.zeros(lacking, np.float32)])
        self._past.push(out)
        return out, self._recount()

    def _recount(self) -> bool:
        """Forget samples that will never come, drop those that are too many."""
        self._owing.append(self._owed)
        self._ahead.append(len(self._waiting))
        late = min(self._owing) if len(self._owing) == _PATIENCE else 0
        early = min(self._ahead) - _AHEAD
        if len(self._ahead) < 4 * _PATIENCE or early < _AHEAD:
            early = 0
        self._owed -= late
        self._drop(early)
        if late or early:
            self._owing.clear()
            self._ahead.clear()
        return bool(late or early)

    def _drop(self, num_samples: int) -> None:
        self._waiting = self._waiting[max(num_samples, 0) :]

    def delayed(self, num_samples: int, by: int) -> Pcm:
        """The result of ``take``, ``by`` samples earlier."""
        return self._past.last(num_samples, min(by, self._past.size - num_samples))


class Recent:
    """The newest ``size`` samples of a stream, with silence before its start.

    A push copies its samples, and once every ``size`` samples everything that is kept.
    """

    def __init__(self, size: int):
        self.size = size
        self._buffer = np.zeros(2 * size, np.float32)
        self._end = size

    def push(self, pcm: Pcm) -> None:
        """Append ``pcm [S]``."""
        pcm = pcm[-self.size :]
        if self._end + len(pcm) > len(self._buffer):
            self._buffer[: self.size] = self.last(self.size)
            self._end = self.size
        self._buffer[self._end : self._end + len(pcm)] = pcm
        self._end += len(pcm)

    def last(self, num_samples: int, before: int = 0) -> Pcm:
        """The ``[num_samples]`` that end ``before`` samples ago; valid until the next
        push."""
        end = self._end - before
        return self._buffer[end - num_samples : end]


class DelayEstimator:
    """The delay between playing and recording a sound, measured from the sound itself.

    Generalised cross-correlation with phase transform over 2 s at 8 kHz, once a second
    while something audible is played.
    """

    def __init__(self) -> None:
        self.delay_s: float | None = None
        self._rate = SAMPLE_RATE // _DECIMATE
        size = round((_WINDOW_S + _MOST_DELAY_S) * SAMPLE_RATE)
        self._near, self._far = Recent(size), Recent(size)
        self._fresh = 0
        self._last_s: float | None = None

    def look(self, near: Pcm, far: Pcm) -> bool:
        """Take blocks ``[S]`` of both sides; True if the delay has changed."""
        self._near.push(near)
        self._far.push(far)
        self._fresh += len(near)
        if self._fresh < SAMPLE_RATE:
            return False
        self._fresh = 0
        found_s = self._correlate()
        before_s, self._last_s = self._last_s, found_s
        if found_s is None or before_s is None or abs(found_s - before_s) > _AGREE_S:
            return False
        changed = self.delay_s is None or abs(found_s - self.delay_s) > _AGREE_S
        self.delay_s = found_s
        return changed

    def _correlate(self) -> float | None:
        most = round(_MOST_DELAY_S * self._rate)
        far = _decimated(self._far)
        if np.sqrt(np.mean(np.square(far[:-most]))) < _AUDIBLE:
            return None
        near = _decimated(self._near)
        near[:most] = 0  # its cause may lie before the window
        if np.sqrt(np.mean(np.square(near))) < _FAINT:
            return None
        size = 2 * len(near)
        cross = np.fft.rfft(near, size) * np.conj(np.fft.rfft(far, size))
        cross /= np.abs(cross) + 1e-9 * np.abs(cross).max()
        lags = np.fft.irfft(cross)[:most]
        peak = int(np.argmax(lags))
        if lags[peak] < _CLEAR_PEAK * lags.std():
            return None
        return peak / self._rate


def _decimated(recent: Recent) -> Pcm:
    """The sound at a lower rate, by averaging."""
    pcm = recent.last(recent.size)
    coarse = pcm[::_DECIMATE].copy()
    for i in range(1, _DECIMATE):
        coarse += pcm[i::_DECIMATE]
    return coarse / _DECIMATE
