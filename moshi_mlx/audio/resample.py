"""Change the sample rate of a file or of a stream, without delay and to the sample.

sphn's resampler works on whole files only, shifts the sound by 512 source samples and
loses as many at the end (sphn 0.2.1); a microphone and an echo canceller need blocks.
"""

from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np

from ..errors import AudioError

RATES = 4_000, 384_000  # Hz: recordings are between these rates
_LOBES = 48  # zero crossings of the sinc on each side
_ROLLOFF = 0.95  # of the lower Nyquist frequency: middle of the filter's slope
_KAISER_BETA = 9.0  # about 90 dB under the signal
_MIN_HOP = 32  # least number of source samples in a block
_MAX_PERIOD = 640  # odd ratios are replaced by one near them with terms up to this
# Multiply-adds in one product. For more, OpenBLAS starts threads, which spin and wait
# for each other: on a busy machine sound was lost, and files took several times as
# long.
_LIGHT = 2**18


def check_rate(hz: int) -> int:
    """Return the rate. Raises: AudioError for a rate that recordings do not have."""
    if not RATES[0] <= hz <= RATES[1]:
        raise AudioError(
            f"a sample rate of {hz} Hz is not that of a recording: give sound of "
            f"{RATES[0]} to {RATES[1]} Hz."
        )
    return hz


def _ratio(source_hz: int, target_hz: int) -> Fraction:
    """Target samples for a source sample; an odd ratio is replaced by one near it."""
    exact = Fraction(target_hz, source_hz)
    if exact.denominator <= _MAX_PERIOD and exact.numerator <= 2 * _MAX_PERIOD:
        return exact
    if exact < 1:
        return exact.limit_denominator(_MAX_PERIOD)
    return 1 / (1 / exact).limit_denominator(_MAX_PERIOD)


class Resampler:
    """Resamples a stream from ``source_hz`` to ``target_hz``.

    The ratio is a fraction, so all blocks of a few source samples go through the same
    windowed-sinc matrix. The output is aligned with the input; a stream runs
    ``latency`` samples behind its input, until ``flush``.

    Args:
        source_hz: sample rate of the input.
        target_hz: sample rate of the output.
        channels: rows of every block.

    Raises: AudioError for a rate outside 4 to 384 kHz.
    """

    def __init__(self, source_hz: int, target_hz: int, channels: int = 1):
        check_rate(source_hz), check_rate(target_hz)
        ratio = _ratio(source_hz, target_hz)
        up, down = ratio.numerator, ratio.denominator
        repeat = ceil(_MIN_HOP / down)
        self._ratio = ratio
        self._hop_in, self._hop_out = repeat * down, repeat * up
        cutoff = min(1.0, up / down) * _ROLLOFF
        reach = _LOBES / cutoff  # source samples, to each side
        self._side = 0 if ratio == 1 else ceil(reach)
        self.latency = self._side + self._hop_in  # source samples, at most
        self._matrix = self._filter(cutoff, reach)
        self._channels = channels
        self._start()

    def _filter(self, cutoff: float, reach: float) -> np.ndarray:
        """Source window ``[side + hop_in + side]`` to output block ``[hop_out]``."""
        if self._ratio == 1:
            return np.eye(self._hop_in, dtype=np.float32)
        wanted = np.arange(self._hop_out) / float(self._ratio)
        first = np.ceil(wanted - reach).astype(np.int64)
        at = first + np.arange(2 * self._side + 1)[:, None]  # what may be within reach
        away = wanted - at
        bell = np.sqrt(np.maximum(0.0, 1 - (away / reach) ** 2))
        window = np.where(np.abs(away) < reach, np.i0(_KAISER_BETA * bell), 0.0)
        taps = cutoff * np.sinc(cutoff * away) * window / np.i0(_KAISER_BETA)
        # Every output sample gets exactly the mean of a constant signal.
        taps /= taps.sum(axis=0)
        matrix = np.zeros((self._hop_in + 2 * self._side, self._hop_out), np.float32)
        tap, output = np.nonzero(window)
        matrix[at[tap, output] + self._side, output] = taps[tap, output]
        return matrix

    def _start(self) -> None:
        self._pending = np.zeros((self._channels, self._side), np.float32)
        self._taken = 0  # source samples so far
        self._given = 0  # target samples so far

    @property
    def state(self) -> dict[str, Any]:
        """The stream's state; may be set to that of another stream with the same rates.

        Samples are lists of numbers: this module knows no MLX.
        """
        pending = self._pending.tolist()
        return {"pending": pending, "taken": self._taken, "given": self._given}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        pending = np.array(state["pending"], np.float32)
        self._pending = pending.reshape(self._channels, -1)
        self._taken, self._given = state["taken"], state["given"]

    def push(self, pcm: np.ndarray) -> np.ndarray:
        """Add ``pcm [C, S]``, any S; returns the output ``[C, S']`` that is ready."""
        self._taken += pcm.shape[-1]
        out = self._convert(pcm)
        self._given += out.shape[-1]
        return out

    def flush(self) -> np.ndarray:
        """The rest ``[C, S']`` of the stream; the next ``push`` starts a new one."""
        missing = ceil(self._taken * self._ratio) - self._given
        silence = np.zeros((self._channels, self.latency), np.float32)
        rest = self._convert(silence)[:, :missing]
        self._start()
        return rest

    def _convert(self, pcm: np.ndarray) -> np.ndarray:
        x = np.concatenate([self._pending, pcm.astype(np.float32, copy=False)], axis=1)
        span = self._matrix.shape[0]
        blocks = max(0, (x.shape[1] - span) // self._hop_in + 1)
        self._pending = x[:, blocks * self._hop_in :].copy()
        out = np.empty((self._channels, blocks, self._hop_out), np.float32)
        if blocks:
            rows = max(1, _LIGHT // self._matrix.size)
            # Not sliding_window_view: on a live block it costs as much as the products.
            shape, (row, step) = (self._channels, blocks, span), x.strides
            strides = (row, self._hop_in * step, step)
            windows = np.ndarray(shape, np.float32, x, 0, strides)
            for i in range(0, blocks, rows):
                part = slice(i, min(i + rows, blocks))
                np.matmul(windows[:, part], self._matrix, out=out[:, part])
        return out.reshape(self._channels, -1)


def resample(pcm: np.ndarray, source_hz: int, target_hz: int) -> np.ndarray:
    """A whole signal ``pcm [C, S]`` at another rate: ``[C, S * target / source]``.

    One channel ``[S]`` stays one: ``[S * target / source]``.
    """
    if pcm.ndim == 1:
        return resample(pcm[None], source_hz, target_hz)[0]
    if source_hz == target_hz:
        return pcm.astype(np.float32, copy=False)
    stream = Resampler(source_hz, target_hz, pcm.shape[0])
    return np.concatenate([stream.push(pcm), stream.flush()], axis=1)
