"""The golden training run of moshi-finetune, set up here."""

import json
from typing import Any

import mlx.core as mx

from moshi_mlx.checkpoint.build import load_lm
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.finetune.optimizer import CycledAdamW, OneCycle
from moshi_mlx.finetune.step import TrainingStep
from moshi_mlx.finetune.trainable import add_adapters
from tests.learning import LORA, golden

TOLD: dict[str, Any] = json.loads((LORA / "train.json").read_text())
OPTIONS = TOLD["options"]


def stepper(start: str = "lora_step0", **options: Any) -> TrainingStep:
    """The golden model with the golden adapters and optimiser."""
    lm = load_lm(CheckpointInfo.find(LORA))
    trainable = add_adapters(lm, rank=4, scaling=2.0)
    halves = golden(start)
    assert halves.keys() == trainable.arrays.keys()
    assert {n: w.shape for n, w in halves.items()} == {
        n: w.shape for n, w in trainable.arrays.items()
    }
    trainable.arrays = halves
    betas = tuple(OPTIONS["betas"])
    adamw = CycledAdamW(betas, OPTIONS["eps"], OPTIONS["weight_decay"])
    rates = OneCycle(OPTIONS["lr"], OPTIONS["total_steps"], OPTIONS["pct_start"])
    return TrainingStep(lm, trainable, adamw, rates, **options)


def batches() -> list[mx.array]:
    return [golden("io")["codes0"], golden("io")["codes1"]]
