"""A frame of the depth transformer with its draws, as one compiled function.

All its shapes are fixed and all its state lives within the frame, so that the graph is
the same in every frame: it is built once, and replayed without Python after that.
"""

from collections.abc import Callable

import mlx.core as mx
from mlx.utils import tree_flatten

from ..modules import ops
from ..utils.sampling import Sampler
from .depformer import DepFormer
from .guidance import Guidance

Frame = Callable[..., mx.array]


class DepthFrames:
    """The frames of one depth transformer, whoever generates them.

    Compiled functions hold on to the weights that they were made with: ``refresh``
    drops them where the weights were replaced since.
    """

    def __init__(self, depformer: DepFormer):
        self._depformer = depformer
        self._weights: tuple[int, ...] = ()
        self._plain_first = True
        self._compiled: dict[tuple, Frame] = {}

    def refresh(self) -> None:
        """Forget compiled frames if a weight is another array now."""
        weights = self._ids()
        if weights != self._weights:
            self._weights = weights
            self._plain_first = True
            self._compiled.clear()

    def _ids(self) -> tuple[int, ...]:
        leaves = tree_flatten(self._depformer.parameters())
        return tuple(id(array) for _, array in leaves)

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
        given = [hidden, text] if noise is None else [hidden, text, noise]
        if not isinstance(sampler, Sampler):  # a callable of the user's, maybe impure
            return self._frame(sampler, guidance, steps)(*given)
        if self._plain_first or not ops.compiles():
            codes = self._frame(sampler, guidance, steps)(*given)
            if self._plain_first:  # layers have now laid out their weights
                self._plain_first = False
                self._weights = self._ids()
            return codes
        key = (repr(sampler), guidance.coef, steps)
        if key not in self._compiled:
            self._compiled[key] = mx.compile(self._frame(sampler, guidance, steps))
        return self._compiled[key](*given)

    def _frame(self, sampler: Sampler, guidance: Guidance, steps: int) -> Frame:
        def frame(
            hidden: mx.array, text: mx.array, noise: mx.array | None = None
        ) -> mx.array:
            sampled: list[mx.array] = []
            size = 0 if noise is None else noise.shape[-1] // steps

            def choose(step: int, logits: mx.array) -> mx.array:
                logits = guidance.logits(logits.astype(mx.float32))
                mine = None
                if noise is not None:
                    mine = noise[..., step * size : (step + 1) * size]
                sampled.append(draw(sampler, logits, mine))
                return guidance.both(sampled[-1])

            self._depformer(hidden, guidance.both(text), choose, steps)
            return mx.stack(sampled, axis=1)

        return frame


def draw(sampler: Sampler, logits: mx.array, noise: mx.array | None) -> mx.array:
    """A token per row; other callables than ours are given the logits alone."""
    return (sampler(logits) if noise is None else sampler(logits, noise))[0]
