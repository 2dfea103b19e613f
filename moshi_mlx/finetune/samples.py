"""What a model says to the same sound before and after it was trained."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from .. import fast
from ..audio.files import write_wav
from ..checkpoint.kinds import SamplingDefaults
from ..models.generate import LmGen
from ..models.lm import Lm
from ..models.mimi import Mimi
from ..models.prompt import Frames, read_prompt
from ..modules.conditioner import ConditionTensor
from ..utils.sampling import Sampler
from ..utils.text import PieceReader, Tokenizer
from ..utils.whole_files import write_whole
from .dataset import Windows

LONGEST_S = 15.0  # of a sample
COUNT = 2  # samples


@dataclass(frozen=True)
class SpokenSample:
    """What a model said: its words, and its sound ``[S]`` if it speaks."""

    text: str
    pcm: np.ndarray | None


def can_sample(lm: Lm) -> bool:
    """Whether a model hears a user's side (PersonaPlex predicts that, too)."""
    return lm.cfg.other_codebooks > 0


def say(
    lm: Lm,
    mimi: Mimi,
    tokenizer: Tokenizer,
    streams: np.ndarray,
    sampling: SamplingDefaults,
    condition: ConditionTensor | None = None,
    seed: int = 0,
    start: int = 0,
) -> SpokenSample:
    """Let a model hear the user's side of a window, and note what it says.

    Args:
        streams: ``[1 + n_q, T]``, as a training has them.
        sampling: how tokens are drawn.
        condition: that the model is told.
        seed: of the draws.
        start: frames of a prompt, which are given before it hears the user.
    """
    heard = streams[1 + lm.dep_q :]
    frames = int((heard >= 0).all(axis=0).sum())
    lm.eval()
    gen = LmGen(
        lm,
        text_sampler=Sampler(sampling.temp_text, top_k=sampling.top_k_text),
        audio_sampler=Sampler(sampling.temp, top_k=sampling.top_k),
        seed=seed,
    )
    reader = PieceReader(tokenizer, lm.cfg.silent_text)
    text, own = "", []
    if start:  # the first frame of a prompt is not read
        prompt = np.concatenate([streams[:, :1], streams[:, :start]], axis=1)
        read_prompt(gen, Frames(prompt))
    last = min(frames, start + round(LONGEST_S * 12.5))
    for t in [*([] if start else [0]), *range(start, last)]:
        token, _ = gen.step(mx.array(heard[None, :, t]), condition)
        text += reader.read(int(np.array(token)[0, 0]))
        codes = gen.last_audio_tokens() if lm.dep_q else None
        if codes is not None:
            own.append(np.array(codes))
    lm.hide_cache()
    fast.forget(lm)  # it holds copies of weights that training is about to change
    lm.train()
    pcm = None
    if own:
        sound = mimi.decode(mx.array(np.stack(own, axis=2)))
        pcm = np.array(sound.astype(mx.float32))[0, 0]
    return SpokenSample(text.strip(), pcm)


def chosen(windows: Sequence[Windows]) -> list[tuple[Windows, int]]:
    """The first windows, to be heard before and after."""
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
    """The words and the sound files of samples that were written."""
    found = []
    for file in sorted(folder.glob(f"{when}-*.json")):
        text = json.loads(file.read_text(encoding="utf-8"))["text"]
        sound = file.with_suffix(".wav")
        found.append((text, sound if sound.is_file() else None))
    return found
