"""The reply to one frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Reply:
    """The reply to one frame of 80 ms.

    Attributes:
        pcm: float32 ``[1920]`` at 24 kHz; None in the first frames of a model whose
            streams are delayed by more than one step, and if the model does not speak.
        text: words or parts of words of this step, often empty.
        text_token: the text token of this step.
        tokens: the model's codes int32 ``[own]`` of ``pcm``; None without ``pcm``.
        gate: how much the model looked at its image, 0 to 1; None without an image.
    """

    pcm: NDArray[np.float32] | None
    text: str
    text_token: int
    tokens: NDArray[np.int32] | None
    gate: float | None = None
