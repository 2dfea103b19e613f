"""Six questions in voices that nano Moshi never heard, and what PyTorch answers.

Tokens and replies are PyTorch moshi 0.2.13's, in fp32, greedily. Three of the six
recordings ship with the package, the others lie in tests/data/questions.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import mlx.core as mx
import numpy as np

import moshi_mlx
from moshi_mlx.audio import files

FOLDER = Path(__file__).parent / "data" / "questions"
PYTORCH = Path(__file__).parent / "data" / "demo"  # the checkpoint that answers them
SHIPPED = Path(moshi_mlx.__file__).parent / "demo" / "questions"


@dataclass(frozen=True)
class Question:
    """A recorded question with the reference's answer to it."""

    name: str
    question: str
    voice: str
    answer: str

    @property
    def path(self) -> Path:
        """The recording: 24 kHz, mono, 16 bits."""
        shipped = SHIPPED / f"{self.name}.wav"
        return shipped if shipped.exists() else FOLDER / f"{self.name}.wav"

    @cached_property
    def tokens(self) -> dict[str, mx.array]:
        """``user_codes [1, 8, T]`` of the whole recording, ``text_tokens [1, T]`` and
        ``audio_tokens [1, 8, T]`` as sampled in each call, ``output [1, 9, T - 1]`` as
        returned (aligned, from the second call on)."""
        arrays = mx.load(str(FOLDER / f"{self.name}.safetensors"))
        assert isinstance(arrays, dict)
        return arrays

    @property
    def reference_reply(self) -> np.ndarray:
        """The sound ``[S]`` of PyTorch's reply, at 24 kHz."""
        return files.read(FOLDER / f"{self.name}.reference_reply.flac")[0]


QUESTIONS = [
    Question(**entry) for entry in json.loads((FOLDER / "questions.json").read_text())
]
