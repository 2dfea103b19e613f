"""Training is moshi-finetune's in other sizes too, and of all weights.

``other_sizes.json`` holds losses and gradient norms of PyTorch moshi 0.2.13 with
moshi-finetune's losses, AdamW and OneCycleLR, from the models and codes made here.
"""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.finetune.loss import LossWeights
from moshi_mlx.finetune.optimizer import CycledAdamW, OneCycle
from moshi_mlx.finetune.step import TrainingStep
from moshi_mlx.finetune.trainable import (
    Trainable,
    add_adapters,
    add_embeddings,
    everything,
)
from moshi_mlx.models.lm import Lm
from tests import tiny

FILE = Path(__file__).with_name("other_sizes.json")
CASES: dict[str, Any] = json.loads(FILE.read_text())


def trained(lm: Lm, how: dict[str, Any]) -> Trainable:
    """What a case trains, A from NumPy so that PyTorch can have it as well."""
    if how["full"]:
        return everything(lm)
    found = add_adapters(lm, rank=how["rank"], scaling=how["scaling"])
    rng = np.random.default_rng(how["seed"])
    for name in sorted(found.arrays):
        if "lora_A" in name:
            shape = found.arrays[name].shape
            bound = shape[1] ** -0.5
            a = rng.uniform(-bound, bound, shape).astype(np.float32)
            found.arrays[name] = mx.array(a)
    if how["tables"]:
        add_embeddings(lm, found)
    return found


def batch(config: dict[str, Any], how: dict[str, Any], number: int) -> mx.array:
    """Streams with padding, gaps, and an end that is missing."""
    b, t = how["shape"]
    rng = np.random.default_rng([how["seed"], number])
    streams = np.array(tiny.codes(config, b, t, seed=100 * how["seed"] + number))
    streams[:, 0][rng.random((b, t)) < 0.4] = 3
    streams[:, 0][rng.random((b, t)) < 0.1] = 0
    streams[-1, 1:, t - 3 :] = -1
    streams[:, 1:][rng.random(streams[:, 1:].shape) < 0.02] = -1
    return mx.array(streams)


@pytest.mark.parametrize("name", CASES)
def test_losses_and_norms_are_pytorch_s(name: str):
    how, config = CASES[name]["how"], CASES[name]["config"]
    lm = tiny.lm(how["seed"], **config)
    adamw = CycledAdamW((0.9, 0.95), 1e-8, how["decay"])
    rates = OneCycle(how["rate"], how["steps"], how["up"])
    weights = LossWeights(how["first"], how["padding"])
    run = TrainingStep(
        *(lm, trained(lm, how), adamw, rates, weights), max_norm=how["max_norm"]
    )
    for step, told in enumerate(CASES[name]["rows"]):
        first = step * how["accumulate"]
        numbers = range(first, first + how["accumulate"])
        done = run(step, [batch({**tiny.BASE, **config}, how, n) for n in numbers])
        assert done.text_loss == pytest.approx(told["text"], rel=1e-5)
        assert done.audio_loss == pytest.approx(told["audio"], rel=1e-5)
        assert done.grad_norm == pytest.approx(told["norm"], rel=1e-4)
