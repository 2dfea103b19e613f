"""Frames of the depth transformer with their draws, each step a compiled function.

The shapes of a step are the same in every frame, and all its state lives within the
frame. So its graph is built once and replayed without Python after that, whatever is
drawn from its logits.
"""

from functools import partial

import mlx.core as mx

from ..modules.compiled import Compiled
from ..utils.sampling import TokenSampler, draw
from .depformer import DepFormer
from .guidance import Guidance


class DepthFrames:
    """The frames of one depth transformer, whoever generates them."""

    def __init__(self, depformer: DepFormer):
        self._depformer = depformer
        self._compiled = Compiled(depformer)

    def refresh(self) -> None:
        """Notice weights that were replaced since."""
        self._compiled.refresh()

    def __call__(
        self,
        hidden: mx.array,
        text: mx.array,
        noise: mx.array | None,
        sampler: TokenSampler,
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

        self._compiled.begin()
        self._depformer(hidden, guidance.both(text), choose, steps, run=self._run)
        return mx.stack(sampled, axis=1)

    def _run(self, step: int, x: mx.array, *cache: mx.array) -> tuple[mx.array, ...]:
        return self._compiled(step, partial(self._depformer.step, step))(x, *cache)
