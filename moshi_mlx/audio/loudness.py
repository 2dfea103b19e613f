"""Loudness as broadcasters measure it, and how to change it.

ITU-R BS.1770-4: each channel goes through two filters, for the head and for the ear's
insensitivity to low tones. The power of blocks of 400 ms is averaged, without those
below -70 LUFS and then without those 10 LU below the average of the rest.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import AudioError

BLOCK_S, STEP_S = 0.4, 0.1
STANDARD_RATE = 48_000  # Hz: the recommendation's filters are for this rate
SILENT = -70.0  # LUFS: blocks below never count
RELATIVE = -10.0  # LU below the average: nor do these
Section = tuple[tuple[float, float, float], tuple[float, float]]  # b, and a[1:]


def loudness(pcm: NDArray[np.float32], sample_rate: int) -> float:
    """Integrated loudness in LUFS of one channel ``[S]``; -inf for silence.

    Raises: AudioError for less than 0.4 s.
    """
    size, step = round(BLOCK_S * sample_rate), round(STEP_S * sample_rate)
    if len(pcm) < size:
        raise AudioError(
            f"the loudness of {len(pcm) / sample_rate:.2f} s of sound cannot be "
            f"measured: give {BLOCK_S} s or more."
        )
    heard = pcm.astype(np.float64)
    for section in _weighting(sample_rate):
        heard = _filtered(heard, section)
    power = np.concatenate([[0.0], np.cumsum(heard * heard)])
    starts = np.arange(0, len(heard) - size + 1, step)
    blocks = (power[starts + size] - power[starts]) / size
    blocks = blocks[blocks > _power(SILENT)]
    if not blocks.size:
        return -math.inf
    blocks = blocks[blocks > _power(_level(blocks.mean()) + RELATIVE)]
    return _level(blocks.mean())


def with_loudness(
    pcm: NDArray[np.float32], sample_rate: int, wanted: float
) -> NDArray[np.float32]:
    """The sound ``[S]`` at ``wanted`` LUFS; its peaks may exceed 1.

    Raises: AudioError for silence, and for less than 0.4 s.
    """
    found = loudness(pcm, sample_rate)
    if found == -math.inf:
        raise AudioError("the sound is silent: it has no loudness to be changed.")
    return (pcm * 10 ** ((wanted - found) / 20)).astype(np.float32)


def _level(power: float) -> float:
    return -0.691 + 10 * math.log10(power)


def _power(level: float) -> float:
    return 10 ** ((level + 0.691) / 10)


def _weighting(rate: int) -> list[Section]:
    """The two filters (K-weighting) for any rate: a high shelf and a high pass."""
    gain, quality, centre = 3.999843853973347, 0.7071752369554196, 1681.974450955533
    k, high = math.tan(math.pi * centre / rate), 10 ** (gain / 20)
    middle = high**0.4996667741545416
    unit = 1 + k / quality + k * k
    shelf = (
        (high + middle * k / quality + k * k) / unit,
        2 * (k * k - high) / unit,
        (high - middle * k / quality + k * k) / unit,
    )
    first: Section = shelf, (2 * (k * k - 1) / unit, (1 - k / quality + k * k) / unit)
    quality, centre = 0.5003270373238773, 38.13547087602444
    k, wide = (math.tan(math.pi * centre / r) for r in (rate, STANDARD_RATE))
    unit = 1 + k / quality + k * k
    rest = 2 * (k * k - 1) / unit, (1 - k / quality + k * k) / unit
    # The recommendation leaves the division by `unit` out of its filter for 48 kHz.
    scale = (1 + wide / quality + wide * wide) / unit
    return [first, ((scale, -2 * scale, scale), rest)]


def _filtered(x: NDArray[np.float64], section: Section) -> NDArray[np.float64]:
    """A second-order filter, sample by sample."""
    (b0, b1, b2), (a1, a2) = section
    first = second = 0.0
    samples: Any = x.tolist()
    out = np.empty_like(x)
    for i, value in enumerate(samples):
        y = b0 * value + first
        first = b1 * value - a1 * y + second
        second = b2 * value - a2 * y
        out[i] = y
    return out
