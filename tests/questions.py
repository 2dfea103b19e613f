"""Six questions in voices that nano Moshi never heard, and their answers.

``QUESTIONS`` are asked of the demo: six of Kokoro's voices, kept out of its training.
Three of the recordings ship with the package. ``GOLDEN`` are six in voices of
espeak-ng, five of them the same, with the tokens and replies of nano Moshi 1
(tests/data/demo) in PyTorch moshi 0.2.13, in fp32, greedily.
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
NATURAL = FOLDER / "natural"
PYTORCH = Path(__file__).parent / "data" / "demo"  # the checkpoint that answers them
SHIPPED = Path(moshi_mlx.__file__).parent / "demo" / "questions"


@dataclass(frozen=True)
class Question:
    """A recorded question with the reference's answer to it."""

    name: str
    question: str
    voice: str
    answer: str
    folder: Path = NATURAL

    @property
    def path(self) -> Path:
        """The recording: 24 kHz, mono, 16 bits."""
        shipped, name = SHIPPED / f"{self.name}.wav", f"{self.name}.wav"
        natural = self.folder == NATURAL
        return shipped if natural and shipped.exists() else self.folder / name

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


def questions_of(folder: Path) -> list[Question]:
    entries = json.loads((folder / "questions.json").read_text())
    return [Question(**entry, folder=folder) for entry in entries]


QUESTIONS, GOLDEN = questions_of(NATURAL), questions_of(FOLDER)
