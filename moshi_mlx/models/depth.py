"""Frames of the depth transformer with their draws, each step a compiled function.

The shapes of a step are the same in every frame, and all its state lives within the
frame. So its graph is built once and replayed without Python after that, whatever is
drawn from its logits.
"""

import weakref
from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from ..modules import ops
from ..utils.sampling import Sampler
from .depformer import DepFormer
from .guidance import Guidance


class DepthFrames:
    """The frames of one depth transformer, whoever generates them.

    Compiled steps hold on to the weights that they were made with: ``refresh`` drops
    them where the weights were replaced since.
    """

    def __init__(self, depformer: DepFormer):
        self._depformer = depformer
        self._weights: list[weakref.ref[mx.array]] = []
        self._laid_out = False  # layers keep views of their weights, made at first use
        self._steps: dict[int, Callable[..., tuple[mx.array, ...]]] = {}

    def refresh(self) -> None:
        """Forget compiled steps if a weight is another array now."""
        now = self._arrays()
        seen = [weight() for weight in self._weights]
        if len(now) != len(seen) or any(
            a is not b for a, b in zip(now, seen, strict=True)
        ):
            self._laid_out = False
            self._steps.clear()

    def _arrays(self) -> list[mx.array]:
        leaves: Any = tree_flatten(self._depformer.parameters())
        return [array for _, array in leaves]

    def __call__(
        self,
        hidden: mx.array,
        text: mx.array,
        noise: mx.array | None,
        sampler: Sampler,
        guidance: Guidance,
        steps: int,
    ) -> mx.array:
        """Own codes ``[B, steps, 1]``.

        Args:
            hidden: ``[B, 1, D]``, 2B rows under guidance.
            text: ``[B, 1]``.
            noise: Gumbel values of all steps ``[B, 1, steps * size]``, None if greedy.
        """
        sampled: list[mx.array] = []
        size = 0 if noise is None else noise.shape[-1] // steps

        def choose(step: int, logits: mx.array) -> mx.array:
            logits = guidance.logits(logits.astype(mx.float32))
            mine = None
            if noise is not None:
                mine = noise[..., step * size : (step + 1) * size]
            sampled.append(draw(sampler, logits, mine))
            return guidance.both(sampled[-1])

        run = self._run if self._laid_out and ops.compiles() else None
        self._depformer(hidden, guidance.both(text), choose, steps, run=run)
        if not self._laid_out:
            self._laid_out = True
            self._weights = [weakref.ref(array) for array in self._arrays()]
        return mx.stack(sampled, axis=1)

    def _run(self, step: int, x: mx.array, *cache: mx.array) -> tuple[mx.array, ...]:
        if step not in self._steps:
            plain = self._depformer.step
            self._steps[step] = mx.compile(lambda x, *cache: plain(step, x, *cache))
        return self._steps[step](x, *cache)


def draw(sampler: Sampler, logits: mx.array, noise: mx.array | None) -> mx.array:
    """A token per row; other callables than ours are given the logits alone."""
    return (sampler(logits) if noise is None else sampler(logits, noise))[0]
