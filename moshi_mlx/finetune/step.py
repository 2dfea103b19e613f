"""One optimiser step: gradients of its micro-batches, their mean, the update."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

from ..models.lm import Lm
from ..modules.conditioner import ConditionAttributes
from .examples import Batch, Examples, condition_of_rows
from .loss import Add, Losses, LossWeights, alone, losses
from .optimizer import CycledAdamW, Rates, Schedule, update
from .trainable import Arrays, Trainable


@dataclass(frozen=True)
class StepResult:
    """The results of one step: means over its micro-batches.

    Attributes:
        loss, text_loss, audio_loss: before the update.
        grad_norm: before clipping.
        tokens: number that counted, in all micro-batches and processes.
    """

    loss: float
    text_loss: float
    audio_loss: float
    grad_norm: float
    tokens: int
    rates: Rates

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


@dataclass
class TrainingStep:
    """Trains a network, one step at a time.

    Args:
        trainable: arrays of ``lm``; they are changed in place.
        weights: of the losses.
        attributes: conditions of the network; ``Examples`` give each row's number.
        max_norm: norm to which gradients are clipped.
        compiled: compile gradients and update. On a CPU this takes minutes.
        add: sums over the processes that share each micro-batch.
        seed: of dropout, together with the step's number.
    """

    lm: Lm
    trainable: Trainable
    optimizer: CycledAdamW
    schedule: Schedule
    weights: LossWeights = field(default_factory=LossWeights)
    attributes: Sequence[ConditionAttributes] = ()
    max_norm: float = 1.0
    compiled: bool = False
    add: Add = alone
    seed: int = 0

    def __post_init__(self) -> None:
        self._gradients = self._joined
        self._update = self._applied
        if self.compiled:
            self._gradients = mx.compile(
                self._joined, inputs=[mx.random.state], outputs=[mx.random.state]
            )
            state = [self.optimizer.state]
            self._update = mx.compile(self._applied, inputs=state, outputs=state)
        self.optimizer.init(self.trainable.arrays)

    def __call__(self, step: int, batches: Sequence[Batch]) -> StepResult:
        """Train on micro-batches ``[B, 1 + n_q, T]``; steps are counted from 0."""
        rates = self.schedule(step)
        self.optimizer.set(rates.rate, rates.beta1)
        total: Arrays = {}
        sums = [0.0, 0.0, 0.0, 0.0]
        for position, batch in enumerate(batches):
            mx.random.seed((self.seed * 1_000_003 + step * 1_009 + position) % 2**32)
            values, gradients = self._gradients(self.trainable.arrays, *_parts(batch))
            for name, gradient in gradients.items():
                total[name] = total[name] + gradient if position else gradient
            mx.eval(values, total)
            sums = [s + number(v) for s, v in zip(sums, values, strict=True)]
        count = len(batches)
        mean = {name: g / count for name, g in total.items()} if count > 1 else total
        self.trainable.arrays, norm = self._update(self.trainable.arrays, mean)
        mx.eval(self.trainable.arrays, self.optimizer.state, norm)
        self.trainable.put(self.trainable.arrays)  # instead of traced arrays
        loss, text, audio = (s / count for s in sums[:3])
        return StepResult(loss, text, audio, number(norm), round(sums[3]), rates)

    def losses(self, batch: Batch) -> Losses:
        """Losses of a batch of all processes, without training."""
        self.trainable.put(self.trainable.arrays)
        self.lm.eval()  # no dropout
        found = self._losses(*_parts(batch))
        self.lm.train()
        return Losses(*(self.add(value) for value in found))

    def _losses(
        self,
        codes: mx.array,
        start: mx.array | None = None,
        told: mx.array | None = None,
        embedded: mx.array | None = None,
        embedded_steps: mx.array | None = None,
    ) -> Losses:
        ct = condition_of_rows(self.lm.condition_provider, self.attributes, told)
        given = () if ct is None else (ct,)
        begun = embedded, embedded_steps
        return losses(self.lm, codes, self.weights, given, self.add, start, *begun)

    def _of(self, arrays: Arrays, *parts: Any) -> tuple[mx.array, ...]:
        self.trainable.put(arrays)
        return tuple(self._losses(*parts))

    def _joined(
        self, arrays: Arrays, *parts: Any
    ) -> tuple[tuple[mx.array, ...], Arrays]:
        """Losses and gradients of a micro-batch, over all processes."""
        values, gradients = mx.value_and_grad(self._of)(arrays, *parts)
        summed = {name: self.add(gradients[name]) for name in sorted(gradients)}
        return tuple(self.add(value) for value in values), summed

    def _applied(self, arrays: Arrays, gradients: Arrays) -> tuple[Arrays, mx.array]:
        return update(self.optimizer, arrays, gradients, self.max_norm)


def _parts(batch: Batch) -> tuple[Any, ...]:
    return tuple(batch) if isinstance(batch, Examples) else (batch,)


def number(x: mx.array) -> float:
    """The value of an array that holds one real number."""
    value: Any = x.item()
    return float(value)
