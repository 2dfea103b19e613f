"""The one door between a GPU's fused kernels and the forms MLX's CPU backend runs best.

On Metal (and CUDA) every function here is MLX's own fused operation. MLX's CPU backend
takes those apart into many small steps, so there the same arithmetic is written with
as few steps as possible. Nothing else in the package asks which device it runs on.
"""

import math

import mlx.core as mx
import mlx.nn as nn


def on_gpu() -> bool:
    """Whether MLX's default device is a GPU."""
    return mx.default_device().type == mx.DeviceType.gpu


def rms_norm(x: mx.array, weight: mx.array, eps: float) -> mx.array:
    """``x * weight / sqrt(mean(x^2) + eps)`` over the last axis, summed in float32."""
    if on_gpu() or x.dtype != mx.float32:
        return mx.fast.rms_norm(x, weight, eps)
    size = x.shape[-1]
    square = (x[..., None, :] @ x[..., None]).squeeze(-1)
    return x * mx.rsqrt(square * (1 / size) + eps) * weight


def silu(x: mx.array) -> mx.array:
    """``x * sigmoid(x)``. MLX's own is compiled, which on CPU needs a C++ compiler."""
    return nn.silu(x) if on_gpu() else x * mx.sigmoid(x)


def gelu(x: mx.array) -> mx.array:
    """``x * (1 + erf(x / sqrt(2))) / 2``, exactly."""
    return nn.gelu(x) if on_gpu() else x * (mx.erf(x * 0.5**0.5) + 1) * 0.5


def linear_add(x: mx.array, residual: mx.array, linear) -> mx.array:
    """``residual + linear(x)``, in one kernel where the layer is a plain matrix."""
    if "scales" in linear or "bias" in linear:
        return residual + linear(x)
    return mx.addmm(residual, x, linear["weight"].T)


class Rotary:
    """Rotary position embedding of PyTorch moshi: angle = position * period^(-2i/D).

    Args:
        dims: width of a head.
        max_period: longest wavelength, in positions.
        traditional: pairs (2i, 2i + 1) if true, halves (i, i + D/2) if false.

    Source: arXiv:2104.09864; kyutai-labs/moshi, modules/rope.py.
    """

    def __init__(self, dims: int, max_period: float, traditional: bool):
        self.dims = dims
        self.max_period = max_period
        self.traditional = traditional

    def table(self, offset: "int | mx.array", t: int) -> "int | mx.array":
        """What ``rotate`` needs for positions ``offset .. offset + t``; once a call.

        ``offset`` is an int, or one int per row ``[B]``. On a GPU that is the offset
        itself; on CPU the unit vectors ``[B or 1, 1, T, D/2]`` as complex numbers.
        """
        if on_gpu():
            return offset
        half = self.dims // 2
        speed = mx.exp(mx.arange(half) * (-math.log(self.max_period) * 2 / self.dims))
        start = mx.array(offset).astype(mx.float32).reshape(-1, 1, 1, 1)
        angle = (start + mx.arange(t, dtype=mx.float32)[:, None]) * speed
        return mx.cos(angle) + mx.sin(angle) * mx.array(1j)

    def rotate(self, x: mx.array, table: "int | mx.array") -> mx.array:
        """Rotate ``x [B, H, T, D]`` by the table made for its positions."""
        if isinstance(table, int) or table.dtype != mx.complex64:
            return mx.fast.rope(
                x,
                self.dims,
                traditional=self.traditional,
                base=self.max_period,
                scale=1.0,
                offset=table,
            )
        dtype = x.dtype
        x = x.astype(mx.float32)
        if self.traditional:
            return (x.view(mx.complex64) * table).view(mx.float32).astype(dtype)
        real, imag = x[..., : self.dims // 2], x[..., self.dims // 2 :]
        turned = (real + imag * mx.array(1j)) * table
        return mx.concatenate([mx.real(turned), mx.imag(turned)], -1).astype(dtype)
