"""Layers that store only their input for their gradients, and compute the rest again.

It takes about a third more time and far less memory. Source: arXiv:1604.06174.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..errors import ConfigError
from ..models.depformer import DepFormer
from ..models.lm import Lm
from ..modules.attention import LayerCache
from ..modules.kv_cache import Plan
from ..modules.transformer import TransformerLayer
from .loss import LONGEST


def _again(
    module: nn.Module, call: Callable[..., mx.array], x: mx.array, *rest: Any
) -> mx.array:
    """``call(x, *rest)``, computed a second time for its gradients."""

    def of_arrays(arrays: Any, x: mx.array) -> mx.array:
        module.update(arrays)
        return call(x, *rest)

    return mx.checkpoint(of_arrays)(module.trainable_parameters(), x)


class CheckpointedLayer(TransformerLayer):
    """``TransformerLayer`` on a whole sequence; with a stream's cache it is
    unchanged."""

    def __call__(
        self,
        x: mx.array,
        cache: LayerCache | None,
        plan: Plan,
        condition: Any = None,
    ) -> mx.array:
        call = super().__call__
        if cache is not None:
            return call(x, cache, plan, condition)
        return _again(self, call, x, None, plan, condition)


class CheckpointedDepFormer(DepFormer):
    """``DepFormer`` as a whole, because its layers share caches from step to step."""

    def teacher_forced(self, hidden: mx.array, codes: mx.array) -> mx.array:
        return _again(self, super().teacher_forced, hidden, codes)


@contextmanager
def checkpointed(lm: Lm, frames: int) -> Iterator[None]:
    """Checkpoint the layers of a model while the block runs.

    Args:
        frames: length of the training windows.

    Raises: ConfigError for windows that are longer than what can run at once.
    """
    if frames > LONGEST:
        raise ConfigError(
            f"windows of {frames / 12.5:g} s are too long for --grad-checkpoint: give "
            f"a --window of at most {LONGEST / 12.5:g} s."
        )
    layers = [x for x in lm.transformer.layers if type(x) is TransformerLayer]
    swapped: list[tuple[Any, type]] = [(layer, CheckpointedLayer) for layer in layers]
    if lm.dep_q:
        swapped.append((lm.depformer, CheckpointedDepFormer))
    before = [(module, type(module)) for module, _ in swapped]
    for module, kind in swapped:
        module.__class__ = kind
    try:
        yield
    finally:
        for module, kind in before:
            module.__class__ = kind
