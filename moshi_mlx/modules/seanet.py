"""SEANet: convolutions from 24 kHz samples to 25 Hz latents, and back.

The state of a stream is one ``State`` per convolution, in the order of computation.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import mlx.core as mx
import mlx.nn as nn

from ..compat import StreamingAdd
from .conv import State, StreamableConv1d, StreamableConvTranspose1d

__all__ = ["SeanetConfig", "SeanetDecoder", "SeanetEncoder", "StreamingAdd"]

States = Iterator[State] | Iterator[None]


@dataclass
class SeanetConfig:
    """Shape of encoder and decoder. The fields are moshi_mlx 0.3.0's.

    ``ratios`` are the strides in the decoder's order; their product is the number of
    samples per latent. ``nfilters`` is the number of channels next to the samples; each
    stride doubles it. ``compress`` divides the width inside residual blocks. Without
    ``true_skip`` the skip of a block is a learnt matrix.
    """

    dimension: int
    channels: int
    causal: bool
    nfilters: int
    nresidual_layers: int
    ratios: list[int]
    ksize: int
    residual_ksize: int
    last_ksize: int
    dilation_base: int
    pad_mode: str
    true_skip: bool
    compress: int


def _conv(
    cfg: SeanetConfig,
    c_in: int,
    c_out: int,
    ksize: int,
    stride: int = 1,
    dilation: int = 1,
) -> StreamableConv1d:
    return StreamableConv1d(
        c_in,
        c_out,
        ksize,
        stride,
        dilation,
        causal=cfg.causal,
        pad_mode=cfg.pad_mode,
    )


class Elu(nn.Module):
    """``x`` if positive, else ``exp(x) - 1``."""

    def __call__(self, x: mx.array) -> mx.array:
        return mx.where(x > 0, x, mx.expm1(mx.minimum(x, 0)))


class SeanetResnetBlock(nn.Module):
    """Two convolutions, the second one pointwise, and a skip around them."""

    def __init__(self, cfg: SeanetConfig, dim: int, dilation: int):
        super().__init__()
        hidden = dim // cfg.compress
        self.elu = Elu()
        self.block = [
            _conv(cfg, dim, hidden, cfg.residual_ksize, dilation=dilation),
            _conv(cfg, hidden, dim, 1),
        ]
        if not cfg.true_skip:
            self.shortcut = _conv(cfg, dim, dim, 1)

    def __call__(self, x: mx.array, states: States) -> mx.array:
        skip = self.shortcut(x) if "shortcut" in self else x
        for conv in self.block:
            x = conv(self.elu(x), next(states))
        return x + skip


def _residuals(cfg: SeanetConfig, dim: int) -> list[SeanetResnetBlock]:
    return [
        SeanetResnetBlock(cfg, dim, cfg.dilation_base**i)
        for i in range(cfg.nresidual_layers)
    ]


class EncoderLayer(nn.Module):
    """Residual blocks, then a strided convolution that doubles the channels."""

    def __init__(self, cfg: SeanetConfig, ratio: int, dim: int):
        super().__init__()
        self.elu = Elu()
        self.residuals = _residuals(cfg, dim)
        self.downsample = _conv(cfg, dim, 2 * dim, 2 * ratio, stride=ratio)

    def stages(self) -> list[nn.Module]:
        return [*(c for r in self.residuals for c in r.block), self.downsample]

    def __call__(self, x: mx.array, states: States) -> mx.array:
        for residual in self.residuals:
            x = residual(x, states)
        return self.downsample(self.elu(x), next(states))


class DecoderLayer(nn.Module):
    """A transposed convolution that halves the channels, then residual blocks."""

    def __init__(self, cfg: SeanetConfig, ratio: int, dim: int):
        super().__init__()
        self.elu = Elu()
        self.upsample = StreamableConvTranspose1d(
            dim, dim // 2, 2 * ratio, stride=ratio, causal=cfg.causal
        )
        self.residuals = _residuals(cfg, dim // 2)

    def stages(self) -> list[nn.Module]:
        return [self.upsample, *(c for r in self.residuals for c in r.block)]

    def __call__(self, x: mx.array, states: States) -> mx.array:
        x = self.upsample(self.elu(x), next(states))
        for residual in self.residuals:
            x = residual(x, states)
        return x


class _Seanet(nn.Module):
    """First convolution, layers, last convolution: the same in both directions."""

    elu: Elu
    init_conv1d: StreamableConv1d
    layers: list
    final_conv1d: StreamableConv1d

    def make_state(self, batch_size: int) -> list[State]:
        """State of a new stream: one for every convolution, in order."""
        inner = [conv for layer in self.layers for conv in layer.stages()]
        convs = [self.init_conv1d, *inner, self.final_conv1d]
        return [conv.make_state(batch_size) for conv in convs]

    def __call__(self, x: mx.array, state: list[State] | None = None) -> mx.array:
        states: States = repeat(None) if state is None else iter(state)
        x = self.init_conv1d(x, next(states))
        for layer in self.layers:
            x = layer(x, states)
        return self.final_conv1d(self.elu(x), next(states))


class SeanetEncoder(_Seanet):
    """Samples to latents.

    Shape: ``[B, S, channels] -> [B, S / prod(ratios), dimension]``.
    Source: arXiv:2210.13438, section 3.1; kyutai-labs/moshi, modules/seanet.py.
    """

    def __init__(self, cfg: SeanetConfig):
        super().__init__()
        self.elu = Elu()
        dim = cfg.nfilters
        self.init_conv1d = _conv(cfg, cfg.channels, dim, cfg.ksize)
        self.layers = []
        for ratio in reversed(cfg.ratios):
            self.layers.append(EncoderLayer(cfg, ratio, dim))
            dim *= 2
        self.final_conv1d = _conv(cfg, dim, cfg.dimension, cfg.last_ksize)


class SeanetDecoder(_Seanet):
    """Latents to samples.

    Shape: ``[B, T, dimension] -> [B, T * prod(ratios), channels]``.
    Source: as ``SeanetEncoder``.
    """

    def __init__(self, cfg: SeanetConfig):
        super().__init__()
        self.elu = Elu()
        dim = cfg.nfilters << len(cfg.ratios)
        self.init_conv1d = _conv(cfg, cfg.dimension, dim, cfg.ksize)
        self.layers = []
        for ratio in cfg.ratios:
            self.layers.append(DecoderLayer(cfg, ratio, dim))
            dim //= 2
        self.final_conv1d = _conv(cfg, dim, cfg.channels, cfg.last_ksize)
