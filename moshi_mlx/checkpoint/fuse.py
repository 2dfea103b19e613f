"""Adapters merged into the weights, in any precision, quantised again or not."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from ..errors import CheckpointError
from ..modules.embedding import PARTS, QuantizedScaledEmbedding, ScaledEmbedding
from ..modules.quantized import dequantised
from ..utils.remap import shown
from ..utils.tensor_files import Weights
from .lora import A, B, merge, split_adapters


def fuse(lm: nn.Module, adapters: Weights, scaling: float, what: str) -> None:
    """Add adapters to a model's weights, in place: ``W + scaling * B A``.

    A quantised matrix is dequantised, changed, and quantised again in the same way,
    which loses a part of the change.

    Args:
        adapters: with our names.

    Raises: CheckpointError for a tensor that finds no layer, or has another shape.
    """
    whole, halves = split_adapters(adapters)
    layers: dict[str, Any] = dict(lm.named_modules())
    paths = {name.removesuffix(A).removesuffix(B) for name in halves}
    paths |= {name.removesuffix(".weight") for name in whole}
    if stray := [p for p in paths if "weight" not in layers.get(p, {})]:
        raise CheckpointError(f"{what} change unknown tensors {shown(stray)}.")
    floats: dict[int, mx.array] = {}  # layers may share a matrix
    for path in paths:
        matrix = layers[path]["weight"]
        floats.setdefault(id(matrix), as_floats(layers[path]))
    base = {f"{p}.weight": floats[id(layers[p]["weight"])] for p in paths}
    merged = merge(base, adapters, scaling, what)
    packed: dict[int, Any] = {}
    for path in sorted(paths):
        layer, new = layers[path], merged[f"{path}.weight"]
        if "scales" not in layer:
            layer["weight"] = new.astype(layer["weight"].dtype)
            continue
        if id(new) not in packed:
            kind = layer["scales"].dtype
            floats_of = new.astype(kind) if layer.mode == "affine" else new
            how = (layer.group_size, layer.bits)
            packed[id(new)] = mx.quantize(floats_of, *how, mode=layer.mode)
        for name, array in zip(PARTS, packed[id(new)], strict=False):
            layer[name] = array


def as_floats(layer: Any) -> mx.array:
    """A layer's weights in float32, dequantised if need be."""
    if "scales" not in layer:
        return layer["weight"].astype(mx.float32)
    return dequantised(layer, layer, mx.float32)


def dequantize(lm: nn.Module, dtype: mx.Dtype = mx.bfloat16) -> None:
    """Replace quantised layers by plain ones of a type, in place."""
    changed: dict[int, mx.array] = {}
    replaced: list[tuple[str, nn.Module]] = []
    for path, layer in lm.named_modules():
        if "scales" not in layer:
            continue
        key = id(layer["weight"])
        if key not in changed:
            changed[key] = as_floats(layer).astype(dtype)
        plain: nn.Module = nn.Linear(1, 1, bias=False)
        if isinstance(layer, QuantizedScaledEmbedding):
            rows, width = changed[key].shape
            plain = ScaledEmbedding(rows, width)
        plain["weight"] = changed[key]
        if "bias" in layer:
            plain["bias"] = layer["bias"]
        replaced.append((path, plain))
    lm.update_modules(tree_unflatten(replaced))
