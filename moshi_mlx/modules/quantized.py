"""Quantised weights as floats."""

from collections.abc import Mapping

import mlx.core as mx
import mlx.nn as nn


def dequantised(
    layer: nn.Module, parts: Mapping[str, mx.array], dtype: mx.Dtype | None = None
) -> mx.array:
    """A quantised layer's weights as floats, all of them or some rows.

    Args:
        dtype: of the result; by default that of the scales, if they are floats.
    """
    return mx.dequantize(
        parts["weight"],
        parts["scales"],
        parts.get("biases"),
        group_size=layer.group_size,
        bits=layer.bits,
        mode=layer.mode,  # type: ignore[arg-type]
        dtype=dtype,
    )
