"""Causal convolutions over a stream, with one code path for files and live frames.

Layout is NLC, ``[B, T, C]``. The state of a stream is a ``State`` outside the layer; a
call without one takes a whole signal. The small wrappers around ``Conv1d`` and
``ConvTranspose1d`` are there for the tensor names in published files.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..compat import UpdateInPlace

State = dict[str, mx.array]  # batch is the first axis of every array; zeros are silence


class Conv1d(nn.Module):
    """Convolution without padding; ``weight [C_out, ksize, C_in / groups]``.

    Shape: ``[B, T, C_in] -> [B, (T - reach) // stride + 1, C_out]`` where ``reach`` is
    ``(ksize - 1) * dilation + 1``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ksize: int,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        bias: bool = True,
    ):
        super().__init__()
        scale = (in_channels // groups * ksize) ** -0.5
        shape = (out_channels, ksize, in_channels // groups)
        self.weight = mx.random.uniform(-scale, scale, shape)
        if bias:
            self.bias = mx.zeros(out_channels)
        self.stride = stride
        self.groups = groups
        self.dilation = dilation

    def __call__(self, x: mx.array) -> mx.array:
        y = mx.conv1d(
            x,
            self["weight"],
            stride=self.stride,
            dilation=self.dilation,
            groups=self.groups,
        )
        return y + self["bias"] if "bias" in self else y


class ConvTranspose1d(UpdateInPlace, nn.Module):
    """Transposed convolution; ``weight [C_out / groups, ksize, C_in]``.

    Shape: ``[B, T + taps - 1, C_in] -> [B, T * stride, C_out]``: the first ``taps - 1``
        inputs belong to the past, and output that still depends on later inputs is cut
        off. ``taps`` is ``ksize / stride``, rounded up.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ksize: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
    ):
        super().__init__()
        if groups not in (1, in_channels) or (groups > 1 and groups != out_channels):
            raise ValueError(
                f"ConvTranspose1d got {groups} groups for {in_channels} -> "
                f"{out_channels} channels: use 1, or one per channel."
            )
        scale = (in_channels // groups * ksize) ** -0.5
        shape = (out_channels // groups, ksize, in_channels)
        self.weight = mx.random.uniform(-scale, scale, shape)
        if bias:
            self.bias = mx.zeros(out_channels)
        self.stride = stride
        self.groups = groups
        self.taps = -(-ksize // stride)

    def __call__(self, x: mx.array) -> mx.array:
        weight, stride = self["weight"], self.stride
        ksize = weight.shape[1]
        if ksize < stride:
            weight = mx.pad(weight, [(0, 0), (0, stride - ksize), (0, 0)])
        if self.groups > 1:
            weight = weight.transpose(2, 1, 0)
        y = mx.conv_transpose1d(x, weight, stride=stride, groups=self.groups)
        begin = (self.taps - 1) * stride
        y = y[:, begin : x.shape[1] * stride]
        return y + self["bias"] if "bias" in self else y


class NormConv1d(nn.Module):
    """Holds a convolution as ``conv``; the norm used in training is folded into it."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()
        self.conv = Conv1d(*args, **kwargs)

    def __call__(self, x: mx.array) -> mx.array:
        return self.conv(x)


class NormConvTranspose1d(nn.Module):
    """Holds a transposed convolution as ``convtr``."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()
        self.convtr = ConvTranspose1d(*args, **kwargs)

    def __call__(self, x: mx.array) -> mx.array:
        return self.convtr(x)


def _remember(x: mx.array, state: State | None, kept: int) -> mx.array:
    """Prepend the stream's last ``kept`` samples to ``x``, and store the new last ones.

    A stream starts with zeros.
    """
    if not kept:
        return x
    b, _, c = x.shape
    past = mx.zeros((b, kept, c), x.dtype) if state is None else state["past"]
    if past.shape[0] != b:
        raise ValueError(
            f"the stream's state holds {past.shape[0]} rows but got {b}: make one "
            "state per batch size."
        )
    x = mx.concatenate([past, x], axis=1)
    if state is not None:
        state["past"] = x[:, -kept:]
    return x


class StreamableConv1d(nn.Module):
    """Convolution that never looks ahead.

    Args:
        stride: input samples per output sample. Every call must pass a multiple of it.
        pad_mode: what precedes the first sample: "constant" for zeros, "replicate"
            ("edge" in 0.3.0) the first sample itself.

    Shape: ``[B, T, C_in] -> [B, T / stride, C_out]``.
    Raises: ValueError when T is not a positive multiple of the stride.
    Source: Mimi (arXiv:2410.00037); kyutai-labs/moshi, modules/conv.py.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ksize: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        causal: bool = True,
        pad_mode: str = "constant",
    ):
        super().__init__()
        if not causal:
            raise ValueError("only causal convolutions can stream: set causal=True.")
        if pad_mode not in ("constant", "replicate", "edge"):
            raise ValueError(
                f"pad_mode {pad_mode!r} is not supported: use 'constant' or "
                "'replicate'."
            )
        self.replicate = pad_mode != "constant"
        self.in_channels = in_channels
        self.kept = (ksize - 1) * dilation + 1 - stride  # samples
        if self.kept < 0:
            raise ValueError(
                f"a stride of {stride} skips samples between kernels that reach "
                f"{self.kept + stride}: use a larger kernel."
            )
        self.conv = NormConv1d(
            in_channels,
            out_channels,
            ksize,
            stride=stride,
            groups=groups,
            dilation=dilation,
            bias=bias,
        )

    def make_state(self, batch_size: int) -> State:
        """State of a new stream."""
        if not self.kept:
            return {}
        dtype = self.conv.conv.weight.dtype
        state = {"past": mx.zeros((batch_size, self.kept, self.in_channels), dtype)}
        if self.replicate:
            state["begun"] = mx.zeros((batch_size, 1, 1), mx.bool_)
        return state

    def __call__(self, x: mx.array, state: State | None = None) -> mx.array:
        b, t, _ = x.shape
        stride = self.conv.conv.stride
        if not t or t % stride:
            raise ValueError(
                f"the convolution got {t} samples, not a positive multiple of its "
                "stride "
                f"{stride}: pad the signal to whole frames first."
            )
        if self.replicate and self.kept:
            state = self.make_state(b) if state is None else state
            state["past"] = mx.where(state["begun"], state["past"], x[:, :1])
            state["begun"] = mx.ones((b, 1, 1), mx.bool_)
        return self.conv(_remember(x, state, self.kept))


class StreamableConvTranspose1d(nn.Module):
    """Transposed convolution that never looks ahead.

    Shape: ``[B, T, C_in] -> [B, T * stride, C_out]``.
    Source: as ``StreamableConv1d``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ksize: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
        causal: bool = True,
    ):
        super().__init__()
        if not causal:
            raise ValueError("only causal convolutions can stream: set causal=True.")
        self.in_channels = in_channels
        self.convtr = NormConvTranspose1d(
            in_channels, out_channels, ksize, stride=stride, groups=groups, bias=bias
        )

    def make_state(self, batch_size: int) -> State:
        """State of a new stream."""
        layer = self.convtr.convtr
        if layer.taps == 1:
            return {}
        shape = (batch_size, layer.taps - 1, self.in_channels)
        return {"past": mx.zeros(shape, layer.weight.dtype)}

    def __call__(self, x: mx.array, state: State | None = None) -> mx.array:
        return self.convtr(_remember(x, state, self.convtr.convtr.taps - 1))


def hold_rows(
    states: Sequence[State], before: Sequence[State], active: Sequence[bool]
) -> None:
    """Restore inactive rows to what they were ``before``."""
    if all(active):
        return
    moved = mx.array(list(active))[:, None, None]
    for state, old in zip(states, before, strict=True):
        for name, value in state.items():
            state[name] = mx.where(moved, value, old[name])


def reset_rows(states: Sequence[State], rows: Sequence[int]) -> None:
    """Start the given rows of the batch again; nothing is evaluated yet."""
    for state in states:
        for name, value in state.items():
            keep = [[[row not in rows]] for row in range(value.shape[0])]
            state[name] = mx.where(mx.array(keep), value, mx.zeros_like(value))
