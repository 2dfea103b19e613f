"""A model's answers to the same sound before and after training."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..audio.files import write_wav
from ..checkpoint.kinds import SamplingDefaults
from ..models.lm import Lm
from ..models.mimi import Mimi
from ..models.prompt import Frames
from ..modules.conditioner import ConditionTensor
from ..utils.text import PieceReader, Tokenizer
from ..utils.whole_files import write_whole
from .replies import replies
from .windows import Windows
from .words import frames_of

LONGEST_S = 15.0  # of a sample
COUNT = 2  # samples


@dataclass(frozen=True)
class SpokenSample:
    """A model's answer: its words, and its sound ``[S]`` if it speaks."""

    text: str
    pcm: np.ndarray | None


def can_sample(lm: Lm) -> bool:
    """Whether a model hears a user's side."""
    return lm.cfg.other_codebooks > 0


def say(
    lm: Lm,
    mimi: Mimi,
    tokenizer: Tokenizer,
    streams: np.ndarray,
    sampling: SamplingDefaults,
    condition: ConditionTensor | None = None,
    seed: int = 0,
    prompt: Frames | None = None,
) -> SpokenSample:
    """Let a model hear the user's side of a window, and record its answer.

    Args:
        streams: ``[1 + n_q, T]``, as in training.
        sampling: how tokens are drawn.
        condition: that the model is told.
        seed: of the draws.
        prompt: that the window begins with.
    """
    start = 0 if prompt is None else len(prompt) - 1
    heard = streams[1 + lm.dep_q :, start : start + frames_of(LONGEST_S)]
    heard = heard[None, :, (heard >= 0).all(axis=0)]
    (said,) = replies(lm, heard, sampling, seed, condition, prompt)
    reader = PieceReader(tokenizer, lm.cfg.silent_text)
    text = "".join(reader.read(int(token)) for token in said[0])
    pcm = None
    if lm.dep_q:
        sound = mimi.decode(mx.array(said[None, 1:]))
        pcm = np.array(sound.astype(mx.float32))[0, 0]
    return SpokenSample(text.strip(), pcm)


def chosen(windows: Sequence[Windows]) -> list[tuple[Windows, int]]:
    """The first windows, to be heard before and after training."""
    return [(w, n) for w in windows[:1] for n in range(min(COUNT, len(w)))]


def keep(folder: Path, when: str, samples: Sequence[SpokenSample]) -> None:
    """Write samples into a folder. Raises: AudioError, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, sample in enumerate(samples):
        name = folder / f"{when}-{number}"
        write_whole(name.with_suffix(".json"), json.dumps({"text": sample.text}) + "\n")
        if sample.pcm is not None:
            write_wav(name.with_suffix(".wav"), sample.pcm)


def kept(folder: Path, when: str) -> list[tuple[str, Path | None]]:
    """The words and sound files of samples that were written."""
    found = []
    for file in sorted(folder.glob(f"{when}-*.json")):
        text = json.loads(file.read_text(encoding="utf-8"))["text"]
        sound = file.with_suffix(".wav")
        found.append((text, sound if sound.is_file() else None))
    return found
