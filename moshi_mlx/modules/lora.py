"""A linear layer with a low-rank adapter beside it."""

import mlx.core as mx
import mlx.nn as nn


class LoraLinear(nn.Module):
    """``layer(x) + scaling * B A x``, over a layer of any precision.

    The adapter is applied at run time: that is how it trains, and how it runs over
    quantised weights, which cannot take it in without loss.

    Args:
        layer: ``nn.Linear`` or ``nn.QuantizedLinear``; its weights stay as they are.
        a: ``[rank, in]``.
        b: ``[out, rank]``.
        scaling: factor of the change.
        dropout: share of the adapter's inputs that training leaves out.

    Shape: ``[..., in] -> [..., out]``, in the type of ``x``.
    Source: arXiv:2106.09685; kyutai-labs/moshi, modules/lora.py.
    """

    def __init__(
        self,
        layer: nn.Module,
        a: mx.array,
        b: mx.array,
        scaling: float,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.layer = layer
        self.lora_A = a
        self.lora_B = b
        self.scaling = scaling
        self.dropout = dropout

    def __call__(self, x: mx.array) -> mx.array:
        y: mx.array = self.layer(x)
        if self.dropout and self.training:
            kept = mx.random.bernoulli(1 - self.dropout, x.shape)
            x = mx.where(kept, x / (1 - self.dropout), 0)
        # Training keeps the halves in float32, whatever the network computes in.
        a, b = self["lora_A"].astype(x.dtype), self["lora_B"].astype(x.dtype)
        change = self.scaling * ((x @ a.T) @ b.T)
        return y + change.astype(y.dtype)


def linear_shape(layer: nn.Module) -> tuple[int, int]:
    """Outputs and inputs of a linear layer, quantised or not."""
    rows, columns = layer["weight"].shape
    if "scales" in layer:
        columns = columns * 32 // layer.bits
    return rows, columns
