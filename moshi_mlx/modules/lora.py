"""Linear layers with low-rank adapters: one for all rows, or one for each row."""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn


class LoraLinear(nn.Module):
    """``layer(x) + scaling * B A x``, over a layer of any precision.

    The adapter is applied at run time: it trains this way, and it works over quantised
    weights, into which it cannot be merged without loss.

    Args:
        layer: ``nn.Linear`` or ``nn.QuantizedLinear``; its weights stay as they are.
        a: ``[rank, in]``.
        b: ``[out, rank]``.
        scaling: factor of the adapter's output.
        dropout: share of the adapter's inputs to drop in training.

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
        return y + self.change(x).astype(y.dtype)

    def change(self, x: mx.array) -> mx.array:
        """What the adapter adds: ``scaling * B A x``."""
        if self.dropout and self.training:
            kept = mx.random.bernoulli(1 - self.dropout, x.shape)
            x = mx.where(kept, x / (1 - self.dropout), 0)
        # Training keeps the two matrices in float32, whatever the network computes in.
        a, b = self["lora_A"].astype(x.dtype), self["lora_B"].astype(x.dtype)
        return self.scaling * ((x @ a.T) @ b.T)


class RowChoice:
    """The adapter of each row of a batch, for all ``RowLoraLinear`` of a network.

    Attributes:
        held: a list of one array, int32 ``[B]``, 0 for none. Compiled functions take
            the list as an input, so that each call reads its current contents.
    """

    def __init__(self) -> None:
        self.held = [mx.zeros((1,), mx.int32)]

    def choose(self, rows: Sequence[int]) -> None:
        """Choose an adapter for each row: 1 for the first one, 0 for none."""
        self.held[0] = mx.array(list(rows), mx.int32)

    def of(self, rows: int) -> mx.array:
        """The choice for ``rows`` rows; with guidance each one occurs twice."""
        chosen = self.held[0]
        return mx.tile(chosen, rows // chosen.size)


class RowLoraLinear(nn.Module):
    """Like ``LoraLinear``, with several adapters; each row has one of them or none.

    Args:
        layer: ``nn.Linear`` or ``nn.QuantizedLinear``; its weights stay as they are.
        a: ``[N, in, rank]`` of N adapters.
        b: ``[N, rank, out]``, multiplied by their factors.
        choice: the network's choice of adapters.

    Shape: ``[B, ..., in] -> [B, ..., out]``, in the type of ``x``.
    """

    def __init__(self, layer: nn.Module, a: mx.array, b: mx.array, choice: RowChoice):
        super().__init__()
        self.layer = layer
        self.rows_A = a
        self.rows_B = b
        self.choice = choice

    def __call__(self, x: mx.array) -> mx.array:
        y: mx.array = self.layer(x)
        chosen = self.choice.of(len(x))
        number = mx.maximum(chosen - 1, 0)
        rows = x.reshape(len(x), -1, x.shape[-1])
        change = (rows @ self["rows_A"][number]) @ self["rows_B"][number]
        change = mx.where((chosen > 0)[:, None, None], change, 0)
        return y + change.reshape(y.shape).astype(y.dtype)


def choices(network: nn.Module) -> list[list[mx.array]]:
    """The choices of adapters that a network's layers read, as compiled inputs."""
    layers = [m for m in network.modules() if isinstance(m, RowLoraLinear)]
    return list({id(m.choice): m.choice.held for m in layers}.values())


def linear_shape(layer: nn.Module) -> tuple[int, int]:
    """Outputs and inputs of a linear layer, quantised or not."""
    rows, columns = layer["weight"].shape
    if "scales" in layer:
        columns = columns * 32 // layer.bits
    return rows, columns
