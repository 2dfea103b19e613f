"""What a frame brings, to whoever talks with the model."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Reply:
    """What one frame of 80 ms brought.

    Attributes:
        pcm: float32 ``[1920]`` at 24 kHz; None in the first frames of a model whose
            streams are delayed by more than one step, and for one that does not speak.
        text: words or parts of words said with this step, often empty.
        text_token: the text token behind it.
        tokens: own codes int32 ``[own]`` of ``pcm``, None if there is none.
        gate: how much the model looked at its image, 0 to 1; None without one.
    """

    pcm: NDArray[np.float32] | None
    text: str
    text_token: int
    tokens: NDArray[np.int32] | None
    gate: float | None = None
