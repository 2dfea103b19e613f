"""Sound outside the models: files, frames, sample rates. Only NumPy, no models.

::

    for frame in moshi_mlx.audio.frames("question.wav"):  # float32 [1920], 24 kHz
        ...
"""

from .files import WavWriter, read, write_wav
from .framing import FRAME, SAMPLE_RATE, Framer, PlaybackRing
from .long import frames
from .resample import Resampler, resample

__all__ = [
    "FRAME",
    "SAMPLE_RATE",
    "Framer",
    "PlaybackRing",
    "Resampler",
    "WavWriter",
    "frames",
    "read",
    "resample",
    "write_wav",
]
