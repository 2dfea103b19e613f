"""Attention to an optional condition: each layer gates what it takes from it.

All layers of a stack share one attention, so that a condition's keys and values are
computed once for all of them.
Source: arXiv:2503.15633 (MoshiVis).
"""

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from .attention import CrossAttention

NARROWER = 8  # a gate's hidden layer is narrower than the model by this factor
CLOSED = -4.0  # added before the sigmoid: a new gate is almost closed


@dataclass(frozen=True)
class Seen:
    """A condition as the layers of a stack see it.

    Attributes:
        attention: the layer that attends to it, shared by all layers.
        keys, values: its keys and values, ``[B, H, S, D]``.
        mask: the mask of a ``Masked`` one, ``[B, 1, 1, S]``.
    """

    attention: CrossAttention
    keys: mx.array
    values: mx.array
    mask: mx.array | None = None

    @property
    def arrays(self) -> tuple[mx.array, ...]:
        """Keys, values, and the mask if there is one."""
        masks = () if self.mask is None else (self.mask,)
        return self.keys, self.values, *masks


class ConditionGate(nn.Module):
    """How much of each channel is let through, 0 to 1.

    Shape: ``[..., D]`` both ways.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.linear1 = nn.Linear(dim, dim // NARROWER, bias=False)
        self.linear2 = nn.Linear(dim // NARROWER, dim, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return mx.sigmoid(self.linear2(mx.maximum(self.linear1(x), 0)) + CLOSED)
