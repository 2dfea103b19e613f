"""Losses, gradients and adapters of small models, as PyTorch's golden data has them."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from moshi_mlx.models import Lm, LmConfig
from moshi_mlx.models.keys import pytorch_rules
from moshi_mlx.utils.remap import remap
from tests.tiny import (
    DATA,
    number,
)

LORA = DATA / "lora"


Gradients = dict[str, mx.array]


def golden(name: str) -> dict[str, mx.array]:
    found = mx.load(str(LORA / f"{name}.safetensors"))
    assert isinstance(found, dict)
    return found


class Lora(nn.Module):
    """``layer(x) + scaling * B A x``."""

    def __init__(self, layer: nn.Module, a: mx.array, b: mx.array, scaling: float):
        super().__init__()
        self.layer = layer
        self.lora_A = a
        self.lora_B = b
        self._scaling = scaling

    def __call__(self, x: mx.array) -> mx.array:
        return self.layer(x) + self._scaling * (x @ self["lora_A"].T @ self["lora_B"].T)


def with_adapters(lm: Lm, halves: dict[str, mx.array], scaling: float) -> None:
    """Put adapters around the layers that they name; only they are trained then."""
    modules = dict(lm.named_modules())
    names = {name.partition(".lora_")[0] for name in halves}
    wrapped = [
        (
            name,
            Lora(
                modules[name],
                halves[f"{name}.lora_A.weight"],
                halves[f"{name}.lora_B.weight"],
                scaling,
            ),
        )
        for name in sorted(names)
    ]
    lm.update_modules(tree_unflatten(wrapped))
    lm.freeze()
    lm.unfreeze(keys=["lora_A", "lora_B"])


def tuned(step: int) -> Lm:
    """The golden model with the adapters of a step."""
    config = json.loads((LORA / "config.json").read_text())
    cfg = LmConfig.from_config_dict(config)
    lm = Lm(cfg)
    rules = pytorch_rules(cfg)
    lm.load_weights(list(remap(golden("model"), rules, "base").items()), strict=True)
    halves = remap(golden(f"lora_step{step}"), rules, "adapters")
    with_adapters(lm, halves, config["lora_scaling"])
    return lm


def weighted_mean(
    logits: mx.array, targets: mx.array, mask: mx.array, weights: mx.array
) -> mx.array:
    weights = weights * mask
    losses = nn.losses.cross_entropy(
        logits.astype(mx.float32), mx.where(mask, targets, 0)
    )
    return (losses * weights).sum() / weights.sum()


def losses(lm: Lm, codes: mx.array, *conditions: Any) -> tuple[mx.array, mx.array]:
    """Text and audio loss of moshi-finetune's example: finetune/loss.py."""
    out = lm.teacher_forced(codes, *conditions)
    text = codes[:, :1]
    weights = mx.where((text == 3) | (text == 0), 0.5, 1.0)
    text_loss = weighted_mean(out.text_logits, text, out.text_mask, weights)
    if out.audio_logits is None or out.audio_mask is None:
        return text_loss, mx.array(0.0)
    own = codes[:, 1 : 1 + lm.dep_q]
    weights = mx.where(mx.arange(lm.dep_q) == 0, 100.0, 1.0)[:, None]
    weights = mx.broadcast_to(weights, own.shape)
    return text_loss, weighted_mean(out.audio_logits, own, out.audio_mask, weights)


def loss(lm: Lm, codes: mx.array, *conditions: Any) -> mx.array:
    text, audio = losses(lm, codes, *conditions)
    return text + audio


def gradients(module: nn.Module, function: Callable[..., mx.array], *args: Any):
    """The value of ``function(module, *args)`` and its gradients by name."""
    value, found = nn.value_and_grad(module, lambda *a: function(module, *a))(*args)
    flat: Any = tree_flatten(found)
    mx.eval(value, found)
    return number(value), dict(flat)


def norm(arrays: Iterable[mx.array]) -> float:
    return sum(number(mx.square(a.astype(mx.float32)).sum()) for a in arrays) ** 0.5
