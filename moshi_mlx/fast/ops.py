"""Operations in the form that runs fastest on the device.

On Metal (and CUDA) every function here is MLX's own fused operation. MLX's CPU backend
splits those into many small steps, so there the same arithmetic is written with as few
steps as possible. ``on_gpu`` is the only place that asks for the device.
"""

import math
import shutil
from collections.abc import Callable
from functools import lru_cache

import mlx.core as mx
import mlx.nn as nn

from ..modules import mlp

ELU_FLOOR = 17.5  # exp(-17.5) is less than float32 can take from 1
ELU_DOUBLINGS = 5
# Taylor series of expm1(x / 32), highest power first.
ELU_SERIES = [2.0 ** (-ELU_DOUBLINGS * i) / math.factorial(i) for i in range(5, 0, -1)]


def on_gpu() -> bool:
    """Whether MLX's default device is a GPU."""
    return mx.default_device().type == mx.DeviceType.gpu


@lru_cache
def compiles() -> bool:
    """Whether ``mx.compile`` works here: on CPU it needs g++."""
    return on_gpu() or shutil.which("g++") is not None


def silu(x: mx.array) -> mx.array:
    """``x * sigmoid(x)``. MLX's own is compiled, which needs g++ on CPU."""
    return nn.silu(x) if on_gpu() else x * mx.sigmoid(x)


def gelu(x: mx.array) -> mx.array:
    """``x * (1 + erf(x / sqrt(2))) / 2``, exactly."""
    return nn.gelu(x) if on_gpu() else x * (mx.erf(x * 0.5**0.5) + 1) * 0.5


def gumbel(shape: tuple[int, ...], key: mx.array) -> mx.array:
    """``mx.random.gumbel``; on a GPU its seven elementwise steps are one kernel."""
    return _gumbel(shape)(key) if on_gpu() else mx.random.gumbel(shape, key=key)


@lru_cache(maxsize=16)
def _gumbel(shape: tuple[int, ...]) -> Callable[[mx.array], mx.array]:
    return mx.compile(lambda key: mx.random.gumbel(shape, key=key))


ACTIVATIONS = {**mlp.ACTIVATIONS, "silu": silu, "gelu": gelu}


def linear(x: mx.array, weight: mx.array, bias: mx.array | None = None) -> mx.array:
    """``x @ weight.T + bias``: ``[..., K]`` by ``[N, K]`` gives ``[..., N]``."""
    return x @ weight.T if bias is None else mx.addmm(bias, x, weight.T)


def conv1d(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> mx.array:
    """Convolution ``[B, T, C_in]`` by ``[C_out, ksize, C_in / groups]``, unpadded."""
    if on_gpu() or groups > 1:
        y = mx.conv1d(x, weight, stride=stride, dilation=dilation, groups=groups)
        return y if bias is None else y + bias
    b, t, c_in = x.shape
    c_out, ksize, _ = weight.shape
    steps = (t - (ksize - 1) * dilation - 1) // stride + 1
    if ksize > 1:
        shape = (b, steps, ksize, c_in)
        x = mx.as_strided(x, shape, (t * c_in, stride * c_in, dilation * c_in, 1))
    elif stride > 1:
        x = x[:, ::stride]
    columns = x.reshape(b, steps, ksize * c_in)
    return linear(columns, weight.reshape(c_out, ksize * c_in), bias)


def elu(x: mx.array) -> mx.array:
    """``x`` if positive, else ``exp(x) - 1``.

    On CPU without ``exp``: MLX's takes 12 ns per number, a multiplication or addition
    0.2 ns. ``expm1(x / 32)`` is a polynomial; five doublings ``expm1(2 t) = expm1(t)
    (expm1(t) + 2)`` lead back to x. The error is below 2e-7.
    """
    if on_gpu() or x.dtype != mx.float32:
        return nn.elu(x)
    low = mx.clip(x, -ELU_FLOOR, 0.0)
    y = low * ELU_SERIES[0]
    for factor in ELU_SERIES[1:]:
        y = (y + factor) * low
    for _ in range(ELU_DOUBLINGS):
        y = (y + 2.0) * y
    return mx.maximum(x, y)
