"""A residual sum and the RMSNorm that reads it, in one Metal kernel.

Layers with plain weights add the residual within their product. Those with quantised
weights cannot: every layer then starts two kernels for a sum and its norm, 160 in a
frame of Moshi 7B. This kernel combines the two.

It is off by default, because it has not run on a Mac yet. ``scripts/mac_report`` tries
it, compares it with the plain form, and times both. ``MOSHI_MLX_METAL_NORM=1`` turns it
on.
"""

import os
from functools import lru_cache
from typing import Any

import mlx.core as mx
import mlx.nn as nn

SWITCH = "MOSHI_MLX_METAL_NORM"
LANES = 1024  # most threads per row
SIMD = 32  # threads whose values an Apple GPU sums at once

# One threadgroup a row. T: type of all arrays; N: numbers in a row. The sum is rounded
# to T before it is squared, as the plain form's is.
SOURCE = """
    uint start = thread_position_in_grid.y * N;
    uint lane = thread_position_in_threadgroup.x;
    uint lanes = threads_per_threadgroup.x;
    threadgroup float partial[32];
    float squares = 0;
    for (uint i = lane; i < N; i += lanes) {
        T value = x[start + i] + residual[start + i];
        total[start + i] = value;
        squares += float(value) * float(value);
    }
    squares = simd_sum(squares);
    if (thread_index_in_simdgroup == 0) {
        partial[simdgroup_index_in_threadgroup] = squares;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    bool used = thread_index_in_simdgroup < simdgroups_per_threadgroup;
    squares = simd_sum(used ? partial[thread_index_in_simdgroup] : 0.0f);
    float scale = metal::precise::rsqrt(squares / N + eps);
    for (uint i = lane; i < N; i += lanes) {
        normed[start + i] = weight[i] * T(float(total[start + i]) * scale);
    }
"""


def add_norm(
    x: mx.array, residual: mx.array, norm: nn.Module
) -> tuple[mx.array, mx.array]:
    """``residual + x`` of rows ``[N, D]``, and its ``norm``."""
    if isinstance(norm, nn.RMSNorm) and _fits(x, residual, norm):
        return kernel(x, residual, norm["weight"], float(norm.eps))
    total = residual + x
    return total, norm(total)


def is_on() -> bool:
    """Whether the kernel is turned on, and Metal is there."""
    return os.environ.get(SWITCH) == "1" and mx.metal.is_available()


def _fits(x: mx.array, residual: mx.array, norm: nn.RMSNorm) -> bool:
    if type(norm) is not nn.RMSNorm or x.shape != residual.shape:
        return False
    return x.dtype == residual.dtype == norm["weight"].dtype


def kernel(
    x: mx.array, residual: mx.array, weight: mx.array, eps: float
) -> tuple[mx.array, mx.array]:
    """The sum, and its norm, for rows of one type; Metal only."""
    rows, width = x.shape
    lanes = min(LANES, -(-width // SIMD) * SIMD)
    total, normed = _compiled()(
        inputs=[x, residual, weight, mx.array(eps, mx.float32)],
        template=[("T", x.dtype), ("N", width)],
        grid=(lanes, rows, 1),
        threadgroup=(lanes, 1, 1),
        output_shapes=[x.shape, x.shape],
        output_dtypes=[x.dtype, x.dtype],
    )
    return total, normed


@lru_cache
def _compiled() -> Any:
    return mx.fast.metal_kernel(
        name="add_rms_norm",
        input_names=["x", "residual", "weight", "eps"],
        output_names=["total", "normed"],
        source=SOURCE,
    )
