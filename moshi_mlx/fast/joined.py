"""Several layers computed as one kernel, over weights joined once.

The layers keep their parameters: the same arrays with the same values. Their memory
becomes part of the joined array's, so that nothing is held twice. If a layer's weights
are replaced (loaded, cast, quantised), the layers are joined again at the next call.
"""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from ..modules.embedding import PARTS, QuantizedScaledEmbedding, ScaledEmbedding
from ..modules.quantized import dequantised
from .linear import FastLinear, FastQuantizedLinear, with_weights

KNOWN = (  # only these: other classes may do anything when called
    nn.Linear,
    nn.QuantizedLinear,
    FastLinear,
    FastQuantizedLinear,
    ScaledEmbedding,
    QuantizedScaledEmbedding,
)


def _kind(layer: nn.Module) -> tuple:
    quantised = [getattr(layer, name, None) for name in ("group_size", "bits", "mode")]
    return type(layer), layer["weight"].shape, layer["weight"].dtype, *quantised


def can_join(layers: Sequence[nn.Module]) -> bool:
    """Whether the layers are of one kind, shape and quantisation, without biases."""
    if not all(type(layer) in KNOWN for layer in layers):
        return False
    return len({_kind(layer) for layer in layers}) == 1 and all(
        getattr(layer, "plain", True) and "bias" not in layer for layer in layers
    )


class _Joined:
    """Joined weights, kept until a layer's weight is replaced."""

    spare_rows = 0

    def __init__(self):
        self._views: list[mx.array | None] = []
        self._arrays: dict[str, mx.array] = {}

    def arrays(self, layers: Sequence[nn.Module]) -> dict[str, mx.array]:
        """The joined arrays by name; empty if the layers cannot be joined."""
        if len(self._views) != len(layers) or any(
            layer.get("weight") is not view
            for layer, view in zip(layers, self._views, strict=True)
        ):
            self._arrays = self._join(layers) if can_join(layers) else {}
            self._views = [layer.get("weight") for layer in layers]
        return self._arrays

    def _join(self, layers: Sequence[nn.Module]) -> dict[str, mx.array]:
        joined = {}
        for name in PARTS:
            if layers[0].get(name) is None:
                continue
            parts = [layer[name] for layer in layers]
            spare = mx.zeros((self.spare_rows, *parts[0].shape[1:]), parts[0].dtype)
            joined[name] = mx.concatenate([*parts, spare])
            mx.eval(joined[name])
            rows = parts[0].shape[0]
            for i, part in enumerate(parts):  # the same array, in shared memory
                part[:] = joined[name][i * rows : (i + 1) * rows]
            mx.eval(parts)
        return joined


class JoinedEmbedding(_Joined):
    """Sum of one embedding per stream, each from its own table."""

    spare_rows = 1  # of zeros, for the zero token

    def _join(self, layers: Sequence[nn.Module]) -> dict[str, mx.array]:
        rows = layers[0]["weight"].shape[0]
        end = rows * len(layers)  # the first of the spare rows
        self._first_rows = mx.arange(0, end + 1, rows, dtype=mx.int32)[:, None]
        mx.eval(self._first_rows)
        return super()._join(layers)

    def __call__(self, layers: Sequence[nn.Module], tokens: mx.array) -> mx.array:
        """Tokens ``[B, K, T]`` through K layers ``-> [B, T, D]``; -1 adds nothing."""
        arrays = self.arrays(layers)
        if not arrays:
            parts = [layer(tokens[:, k]) for k, layer in enumerate(layers)]
            return sum(parts[1:], parts[0])
        row = mx.where(tokens < 0, self._first_rows[-1], tokens + self._first_rows[:-1])
        found = {name: array[row] for name, array in arrays.items()}
        if "scales" not in found:
            return found["weight"].sum(axis=1)
        return dequantised(layers[0], found).sum(axis=1)


class JoinedLinear(_Joined):
    """One input through several matrices, as one product."""

    def __call__(self, layers: Sequence[nn.Module], x: mx.array) -> list[mx.array]:
        """``[B, T, D_in] -> `` ``[B, T, D_out]`` per layer."""
        if not self.arrays(layers):
            return [layer(x) for layer in layers]
        return list(mx.split(self._whole(x), len(layers), axis=-1))

    def _join(self, layers: Sequence[nn.Module]) -> dict[str, mx.array]:
        joined = super()._join(layers)
        for layer in layers:
            layer.pop("_factor", None)  # of a fast form: it shares the old memory
        self._whole = with_weights(layers[0], joined)
        return joined
