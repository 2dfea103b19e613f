"""Resampling between the codec's transformers (25 Hz) and its codes (12.5 Hz)."""

import mlx.core as mx
import mlx.nn as nn

from .conv import State, StreamableConv1d, StreamableConvTranspose1d


class ConvDownsample1d(nn.Module):
    """Learnt downsampling; the first input is repeated before the start.

    Shape: ``[B, T, D] -> [B, T / stride, D]``.
    Source: kyutai-labs/moshi, modules/resample.py.
    """

    def __init__(self, stride: int, dim: int, causal: bool = True):
        super().__init__()
        self.conv = StreamableConv1d(
            dim,
            dim,
            2 * stride,
            stride=stride,
            bias=False,
            causal=causal,
            pad_mode="replicate",
        )

    def make_state(self, batch_size: int) -> State:
        return self.conv.make_state(batch_size)

    def __call__(self, x: mx.array, state: State | None = None) -> mx.array:
        return self.conv(x, state)


class ConvTrUpsample1d(nn.Module):
    """Learnt upsampling of each channel on its own.

    Shape: ``[B, T, D] -> [B, T * stride, D]``.
    Source: kyutai-labs/moshi, modules/resample.py.
    """

    def __init__(self, stride: int, dim: int, causal: bool = True):
        super().__init__()
        self.convtr = StreamableConvTranspose1d(
            dim, dim, 2 * stride, stride=stride, groups=dim, bias=False, causal=causal
        )

    def make_state(self, batch_size: int) -> State:
        return self.convtr.make_state(batch_size)

    def __call__(self, x: mx.array, state: State | None = None) -> mx.array:
        return self.convtr(x, state)
