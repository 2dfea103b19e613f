"""Linear layers: products with a stored transpose, fused with a residual sum."""

from collections.abc import Mapping
from copy import copy

import mlx.core as mx
import mlx.nn as nn

from ..modules.quantized import dequantised
from . import ops
from .twin import forget, form, ready

SMALL_WEIGHT = 2**20  # numbers
MANY_ROWS = 4  # multiplying more rows than this takes longer than dequantising


class _Fast(nn.Module):
    """Shared by both kinds: a factor that is stored as an item, like a weight."""

    def factor(self, x: mx.array) -> mx.array | None:
        """What ``x`` is multiplied by; None leaves the product to the layer itself."""
        raise NotImplementedError

    def add(self, x: mx.array, residual: mx.array) -> mx.array:
        """``residual + self(x)``, in one kernel if the layer is a plain matrix."""
        factor = self.factor(x)
        if factor is None:
            return residual + self(x)
        return mx.addmm(residual, x, factor)

    def keep(self, weight: mx.array) -> mx.array:
        """Keep the transpose of ``weight`` as the factor."""
        factor = weight.T
        mx.eval(factor)  # lazy arrays cannot move to another thread
        self["_factor"] = factor
        return factor


@form(nn.Linear)
class FastLinear(_Fast, nn.Linear):
    """``nn.Linear`` with its transposed weight stored."""

    def made_ready(self) -> None:
        if "bias" not in self:
            self.keep(self["weight"])

    def factor(self, x: mx.array) -> mx.array | None:  # noqa: ARG002
        return self.get("_factor")

    def __call__(self, x: mx.array) -> mx.array:
        factor = self.get("_factor")
        return super().__call__(x) if factor is None else x @ factor


@form(nn.QuantizedLinear)
class FastQuantizedLinear(_Fast, nn.QuantizedLinear):
    """``nn.QuantizedLinear``; unchanged on a GPU.

    MLX's CPU backend multiplies by quantised weights ten times as slowly as by float32,
    and unpacks them for every row. So small ones are kept as a float32 copy, and large
    ones are dequantised for calls with many rows.
    """

    def factor(self, x: mx.array) -> mx.array | None:
        if "bias" in self or ops.on_gpu() or x.dtype != mx.float32:
            return None
        if self["scales"].size * self.group_size >= SMALL_WEIGHT:
            many = x.size > MANY_ROWS * x.shape[-1]
            return self._floats().T if many else None
        kept = self.get("_factor")
        return self.keep(self._floats()) if kept is None else kept

    def _floats(self) -> mx.array:
        return dequantised(self, self, mx.float32)

    def __call__(self, x: mx.array) -> mx.array:
        factor = self.factor(x)
        return super().__call__(x) if factor is None else x @ factor


def with_weights(layer: nn.Module, weights: Mapping[str, mx.array]) -> nn.Module:
    """A fast layer of the kind of ``layer``, over other weights."""
    other = copy(layer)
    other.pop("_factor", None)
    for name, array in weights.items():
        other[name] = array
    if isinstance(other, FastLinear):
        other.made_ready()
    if isinstance(other, _Fast):
        return other
    forget(other)
    return ready(other)


def project(layer: nn.Module, x: mx.array, b: int, t: int) -> mx.array:
    """Rows ``x [B * T, K]`` through any layer; one that is not ours gets [B, T, K]."""
    if isinstance(layer, _Fast):
        return layer(x)
    return layer(x.reshape(b, t, -1)).reshape(b * t, -1)


def adds(layer: nn.Module, x: mx.array) -> bool:
    """Whether ``project_add`` of rows ``x`` is one kernel."""
    return isinstance(layer, _Fast) and layer.factor(x) is not None


def project_add(
    layer: nn.Module, x: mx.array, residual: mx.array, b: int, t: int
) -> mx.array:
    """``residual + layer(x)`` of rows, in one kernel if possible."""
    if isinstance(layer, _Fast):
        return layer.add(x, residual)
    return residual + project(layer, x, b, t)
