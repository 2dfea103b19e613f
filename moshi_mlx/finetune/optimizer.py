"""AdamW as PyTorch computes it, and schedules of its learning rate and momentum."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim

from ..errors import ConfigError
from .trainable import Arrays


class CycledAdamW(optim.AdamW):
    """MLX's AdamW with bias correction and a momentum that may change in every step.

    MLX stores both betas as numbers, which a compiled step would treat as constants;
    here they are arrays in the optimizer's state.
    """

    def __init__(self, betas: tuple[float, float], eps: float, weight_decay: float):
        super().__init__(0.0, list(betas), eps, weight_decay, bias_correction=True)
        self.state["beta1"] = mx.array(betas[0])
        self.state["beta2"] = mx.array(betas[1])

    def apply_single(
        self, gradient: mx.array, parameter: mx.array, state: dict
    ) -> mx.array:
        self.betas = [self.state["beta1"], self.state["beta2"]]  # type: ignore[list-item]
        return super().apply_single(gradient, parameter, state)

    def set(self, rate: float, beta1: float) -> None:
        """Learning rate and momentum of the next step."""
        self.state["learning_rate"] = mx.array(rate)
        self.state["beta1"] = mx.array(beta1)


def update(
    optimizer: CycledAdamW, arrays: Arrays, gradients: Arrays, max_norm: float
) -> tuple[Arrays, mx.array]:
    """One step: the new arrays, and the gradients' norm before clipping.

    Args:
        max_norm: longer gradients are scaled to this norm, taken over all arrays.
    """
    clipped, norm = optim.clip_grad_norm(gradients, max_norm)
    return optimizer.apply_gradients(clipped, arrays), norm


@dataclass(frozen=True)
class Rates:
    """Learning rate and beta1 of one step."""

    rate: float
    beta1: float


Schedule = Callable[[int], Rates]  # steps are counted from 0


@dataclass(frozen=True)
class OneCycle:
    """Up from ``peak / 25`` and down to nearly 0, on cosines; momentum the other way.

    Source: arXiv:1708.07120; PyTorch's ``OneCycleLR`` with its defaults, including
        momentum cycling, which overrides AdamW's own beta1.

    Args:
        peak: the highest learning rate.
        steps: of the whole training.
        up: share of the steps during which the rate rises.
    """

    peak: float
    steps: int
    up: float = 0.05

    def __call__(self, step: int) -> Rates:
        top, last = self.up * self.steps - 1, self.steps - 1
        start, end = self.peak / 25, self.peak / 25 / 1e4
        if step <= top:
            share = step / top if top else 1.0
            rate = _cosine(start, self.peak, share)
            return Rates(rate, _cosine(0.95, 0.85, share))
        share = min((step - top) / (last - top), 1.0) if last > top else 1.0
        return Rates(_cosine(self.peak, end, share), _cosine(0.85, 0.95, share))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


# mlx-lm's names of MLX's schedules, with the arguments that it gives them.
MLX_SCHEDULES = ("cosine_decay", "exponential_decay", "linear_schedule", "step_decay")


def schedule(
    stated: str | Mapping[str, Any], rate: float, steps: int, beta1: float, up: float
) -> Schedule:
    """The schedule that the settings name.

    Args:
        stated: "one_cycle", "constant", or mlx-lm's ``lr_schedule``: ``{name: ...,
            arguments: [...], warmup: steps, warmup_init: rate}``.
        rate: the learning rate of the settings.
        steps: of the whole training.
        beta1: momentum, unless the schedule has its own.
        up: share of the steps in which "one_cycle" rises.

    Raises: ConfigError for one that is not known.
    """
    block = {"name": stated} if isinstance(stated, str) else dict(stated)
    name = block.get("name")
    if name == "one_cycle":
        return OneCycle(rate, steps, up)
    if name == "constant":
        main: Callable[[int], Any] = lambda _: rate  # noqa: E731
    elif name in MLX_SCHEDULES:
        try:
            main = getattr(optim, str(name))(*(block.get("arguments") or [rate, steps]))
            float(main(0))
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"lr_schedule {name} with arguments {block.get('arguments')} is not "
                f"what MLX takes ({str(error).splitlines()[0]}): see mlx.optimizers."
            ) from error
    else:
        known = ", ".join(("one_cycle", "constant", *MLX_SCHEDULES))
        raise ConfigError(f"lr_schedule {str(name)[:40]!r} is unknown: use {known}.")
    warmup, first = int(block.get("warmup", 0)), float(block.get("warmup_init", 0.0))

    def at(step: int) -> Rates:
        if step < warmup:
            share = step / warmup
            return Rates(first + share * (float(main(0)) - first), beta1)
        return Rates(float(main(step - warmup)), beta1)

    return at
