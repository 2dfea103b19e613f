"""A model learns one new answer by adapters, and keeps the old ones."""

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np

from moshi_mlx.checkpoint.build import load_lm
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.kinds import SamplingDefaults
from moshi_mlx.finetune.export import export_adapters, export_weights
from moshi_mlx.finetune.optimizer import CycledAdamW, OneCycle
from moshi_mlx.finetune.replies import replies
from moshi_mlx.finetune.settings import TrainSettings
from moshi_mlx.finetune.step import TrainingStep
from moshi_mlx.finetune.trainable import Trainable, add_adapters, everything
from moshi_mlx.models.lm import Lm
from tests.checkpoint.folders import write
from tests.tiny import BASE, greedy

SIZES = {"dim": 48, "num_heads": 2, "context": 40, "delays": [0] * 7}
ASKED, SAID = 5, 4  # frames of a question, and of its answer
FRAMES = 14
STEPS = 160
ANSWERS = [[7, 8, 9, 10], [11, 12, 13, 14], [15, 16, 17, 18]]  # the last one is new


def talk(question: int, rng: np.random.Generator) -> np.ndarray:
    """Streams ``[7, FRAMES]`` of a question in some voice, and its answer."""
    streams = np.ones((7, FRAMES), np.int32)
    streams[0] = 3  # padding
    place, other = 1 + ASKED, slice(4, 7)
    streams[0, place : place + SAID] = ANSWERS[question]
    streams[1:4, place : place + SAID] = 5 + question
    pattern = np.random.default_rng(question).integers(2, 20, (3, ASKED))
    voice = rng.integers(2, 20, (3, ASKED))
    spoken = np.where(rng.random((3, ASKED)) < 0.15, voice, pattern)
    streams[other, 1:place] = spoken
    return streams


def train(
    lm: Lm,
    trainable: Trainable,
    asked: Sequence[int],
    rate: float,
    rehearsed: Sequence[np.ndarray] = (),
) -> None:
    """On questions in new voices, and in each batch two windows of ``rehearsed``."""
    rng, adamw = np.random.default_rng(3), CycledAdamW((0.9, 0.95), 1e-8, 0.0)
    run = TrainingStep(lm, trainable, adamw, OneCycle(rate, STEPS))
    for step in range(STEPS):
        rows = [talk(q, rng) for q in asked]
        if rehearsed:
            rows += [rehearsed[n] for n in rng.integers(0, len(rehearsed), 2)]
        run(step, [mx.array(np.stack(rows))])


def own_answers(lm: Lm) -> list[np.ndarray]:
    """Old questions in some voices, with what the model says to them."""
    rng = np.random.default_rng(7)
    heard = np.stack([talk(n % 2, rng)[4:] for n in range(24)])
    greedy = SamplingDefaults(temp=0.0, temp_text=0.0)
    said = replies(lm, heard, greedy, seed=0)
    return list(np.concatenate([said, heard], axis=1))


def answers(lm: Lm, seed: int) -> list[list[int]]:
    """What a model says to each question, in a voice that it never learnt from."""
    rng, found = np.random.default_rng(seed), []
    for question in range(len(ANSWERS)):
        heard, gen = talk(question, rng)[4:7], greedy(lm)
        said = []
        for t in [0, *range(FRAMES)]:
            token, _ = gen.step(mx.array(heard[None, :, t]))
            said.append(int(np.array(token)[0, 0]))
        found.append([token for token in said if token > 3])
    return found


def test_a_new_answer_is_learnt_and_old_ones_are_kept(tmp_path: Path):
    config = {**BASE, **SIZES}
    lm = load_lm(CheckpointInfo.find(write(tmp_path / "base", config=config)))
    train(lm, everything(lm), [0, 1, 0, 1], 8e-3)  # it knows the old ones
    knows = tmp_path / "knows"
    knows.mkdir()
    export_weights(knows, lm, config)
    info = CheckpointInfo.find(knows)
    before = [answers(load_lm(info), seed) for seed in (100, 101)]
    lm = load_lm(info)
    own = own_answers(lm)  # of which nobody else wrote anything
    trainable = add_adapters(lm, rank=4)
    train(lm, trainable, [2, 2], 2e-2, rehearsed=own)
    learnt = tmp_path / "learnt"
    learnt.mkdir()
    settings = TrainSettings(rank=4)
    export_adapters(learnt, trainable, info.config, settings)
    adapted = load_lm(CheckpointInfo.find(knows, lora_weights=learnt))
    after = [answers(adapted, seed) for seed in (100, 101)]
    for old, new in zip(before, after, strict=True):
        assert old[:2] == ANSWERS[:2]
        assert old[2] != ANSWERS[2]
        assert new == ANSWERS
