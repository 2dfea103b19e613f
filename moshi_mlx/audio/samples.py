"""Samples as the models take them: float32 in -1..1, one channel, finite."""

import math

import numpy as np
from numpy.typing import NDArray

from ..errors import AudioError

Pcm = NDArray[np.float32]  # samples, in the shape that a docstring says
LOUDEST = 100.0  # no recording in floats goes further beyond 1, which is full scale
NO_NUMBERS = "are not numbers (NaN or infinite)"
SCALED = {"int16": 2.0**15, "int32": 2.0**31}  # full scale of the usual whole numbers
# ITU-R BS.775: left and right bring half their power each, surrounds half of that; the
# subwoofer is left out.
_CENTRE, _LEFT, _SIDE, _LFE = 1.0, 2**-0.5, 2**-0.5, 0.0
# How the loudspeakers of a film are heard by one ear, in the order of WAV and FLAC.
_WEIGHTS = {
    5: (_LEFT, _LEFT, _CENTRE, _LEFT * _SIDE, _LEFT * _SIDE),
    6: (_LEFT, _LEFT, _CENTRE, _LFE, _LEFT * _SIDE, _LEFT * _SIDE),
    7: (_LEFT, _LEFT, _CENTRE, _LFE, *3 * (_LEFT * _SIDE,)),
    8: (_LEFT, _LEFT, _CENTRE, _LFE, *4 * (_LEFT * _SIDE,)),
}


def as_float(pcm: np.ndarray) -> np.ndarray:
    """Samples of any shape as float32 in -1..1.

    Args:
        pcm: floats, which stay as they are, or int16 or int32, which are scaled.

    Raises: AudioError for other types, whose full scale is not known.
    """
    pcm = np.asarray(pcm)
    if pcm.dtype.kind == "f":
        return pcm.astype(np.float32, copy=False)
    if pcm.dtype.name not in SCALED:
        raise AudioError(
            f"these samples are {pcm.dtype}: give float32 from -1 to 1, int16 or int32."
        )
    return (pcm / SCALED[pcm.dtype.name]).astype(np.float32)


def as_int16(pcm: np.ndarray) -> NDArray[np.int16]:
    """Floats of any shape as 16-bit samples; values beyond 1 are clipped."""
    return np.rint(np.clip(pcm, -1.0, 1.0) * 32767.0).astype("<i2")


def as_mono(pcm: np.ndarray) -> np.ndarray:
    """Samples ``[S]`` as float32, see ``as_float``; AudioError for any other shape."""
    pcm = np.asarray(pcm)
    if pcm.ndim != 1:
        raise AudioError(
            f"one channel of sound [S] is needed here, not an array {list(pcm.shape)}: "
            "take a channel or the mean of them."
        )
    return as_float(pcm)


def as_finite(pcm: np.ndarray) -> np.ndarray:
    """Samples ``[S]`` as ``as_mono``; AudioError also for those that are no sound.

    A single NaN would stay in a model's memory forever.
    """
    pcm = as_mono(pcm)
    if wrong := fault(pcm):
        if wrong == NO_NUMBERS:
            wrong = "are not all numbers (some are NaN or infinite)"
        raise AudioError(f"these samples {wrong}: give float32 from -1 to 1.")
    return pcm


def fault(pcm: np.ndarray) -> str:
    """Why floats of any shape cannot be sound, as a verb and what follows it; "" if
    they can: they are numbers, not far beyond 1."""
    loudest = float(np.abs(pcm).max(initial=0.0))
    if loudest <= LOUDEST:
        return ""
    if math.isfinite(loudest):
        return f"go up to {loudest:.4g}, though full scale is 1 (32768 in 16 bits)"
    return NO_NUMBERS


def mixed(pcm: np.ndarray) -> np.ndarray:
    """Channels ``[C, S]`` as one, ``[1, S]``, never louder than the loudest of them.

    Five to eight channels are taken for loudspeakers around a listener (5.0, 5.1, 6.1,
    7.1) and weighted as in ITU-R BS.775; other numbers of channels are averaged.
    """
    weights = _WEIGHTS.get(len(pcm))
    with np.errstate(invalid="ignore", over="ignore"):  # infinite samples: `joined`
        if weights is None:
            return pcm.mean(axis=0, keepdims=True, dtype=np.float32)
        share = np.array(weights, np.float32) / np.float32(sum(weights))
        return (share @ pcm)[None]
