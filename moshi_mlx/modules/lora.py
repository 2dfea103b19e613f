"""Linear layers with low-rank adapters beside them: one, or one for each row."""

from collections.abc import Sequence

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
        return y + self.change(x).astype(y.dtype)

    def change(self, x: mx.array) -> mx.array:
        """What the adapter adds: ``scaling * B A x``."""
        if self.dropout and self.training:
            kept = mx.random.bernoulli(1 - self.dropout, x.shape)
            x = mx.where(kept, x / (1 - self.dropout), 0)
        # Training keeps the halves in float32, whatever the network computes in.
        a, b = self["lora_A"].astype(x.dtype), self["lora_B"].astype(x.dtype)
        return self.scaling * ((x @ a.T) @ b.T)


class RowChoice:
    """Which adapter each row of a batch has, for all ``RowLoraLinear`` of a network.

    Attributes:
        held: a list of one array, int32 ``[B]``, 0 for none. Compiled functions take
            the list as an input, so that each call reads what it holds then.
    """

    def __init__(self) -> None:
        self.held = [mx.zeros((1,), mx.int32)]

    def choose(self, rows: Sequence[int]) -> None:
        """Choose an adapter for each row: 1 for the first one, 0 for none."""
        self.held[0] = mx.array(list(rows), mx.int32)

    def of(self, rows: int) -> mx.array:
        """The choice for ``rows`` rows; under guidance each has a second one."""
        chosen = self.held[0]
        return mx.tile(chosen, rows // chosen.size)


class RowLoraLinear(nn.Module):
    """As ``LoraLinear``, with several adapters of which each row has one or none.

    Args:
        layer: ``nn.Linear`` or ``nn.QuantizedLinear``; its weights stay as they are.
        a: ``[N, in, rank]`` of N adapters.
        b: ``[N, rank, out]``, times their factors.
        choice: of the network.

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
    """What the layers of a network with adapters of their own for rows look at."""
    layers = [m for m in network.modules() if isinstance(m, RowLoraLinear)]
    return list({id(m.choice): m.choice.held for m in layers}.values())


def linear_shape(layer: nn.Module) -> tuple[int, int]:
    """Outputs and inputs of a linear layer, quantised or not."""
    rows, columns = layer["weight"].shape
    if "scales" in layer:
        columns = columns * 32 // layer.bits
    return rows, columns
