"""The inner part of attention, in the form that runs fastest on the device.

On a GPU these are MLX's fused rotation and attention. MLX's CPU backend splits those
into many small steps. There, a single complex multiplication rotates queries and keys,
scales the queries and leaves the values alone; the attention of one position is two
products and a softmax.

An hour into a stream, the last bit of a rotation's speed decides the third digit of its
angle. So the CPU uses the speeds that PyTorch computes: float32 products with exactly
rounded exponentials.
"""

import math
from typing import Any

import mlx.core as mx

from ..modules.attention import Attention
from ..modules.quantized_kv import Packed, attend
from . import ops

Table = mx.array | None


class Heads:
    """Splits projections ``[B * T, (H + 2 H_kv) * D]`` into heads, rotates and attends.

    Rotation is PyTorch moshi's: angle = position * max_period^(-2i / D).

    Args:
        num_heads: query heads H.
        num_kv_heads: key heads, and value heads, H_kv.
        head_dim: width D of a head.
        max_period: longest wavelength in positions; None does not rotate.
        interleaved: pairs (2i, 2i + 1) if true, (i, i + D/2) if false.

    Source: arXiv:2104.09864; kyutai-labs/moshi, modules/rope.py.
    """

    def __init__(
        self,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        max_period: float | None = None,
        interleaved: bool = True,
    ):
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = head_dim
        self.max_period = max_period
        self.interleaved = interleaved
        self.scale = head_dim**-0.5
        self._scaling: mx.array | None = None
        self._speeds: mx.array | None = None

    @classmethod
    def of(cls, layer: Attention) -> "Heads":
        """The heads of an attention layer."""
        shape = layer.num_heads, layer.kv_heads, layer.head_dim
        if layer.rope is None:
            return cls(*shape)
        return cls(*shape, layer.rope.base, layer.rope.traditional)

    def table(self, start: int | mx.array, t: int, dtype: mx.Dtype) -> Table:
        """The tables that ``split`` needs for positions ``start .. start + t``.

        ``start`` is an int, or one position per row ``[B]``.
        """
        if not self._by_hand(dtype):
            return None if self.max_period is None else mx.array(start)
        if self.max_period is None:
            if self._scaling is None:
                per_head = mx.where(self._queries(), self.scale, 1.0)
                self._scaling = mx.repeat(per_head, self.head_dim)[None]
                mx.eval(self._scaling)
            return self._scaling
        first = mx.array(start).astype(mx.float32).reshape(-1, 1, 1)
        angle = (first + mx.arange(t, dtype=mx.float32)[:, None]) * self._speed(
            self.max_period
        )
        angle = angle[..., None, :]
        unit = mx.cos(angle) + mx.sin(angle) * mx.array(1j)
        queries, values = self._queries()[:, None], self._values()[:, None]
        turn = mx.where(values, mx.array(1, mx.complex64), unit)
        return (turn * mx.where(queries, self.scale, 1.0)).reshape(
            -1, t, len(queries), self.head_dim // 2
        )

    def _speed(self, max_period: float) -> mx.array:
        """Angle per position of each pair ``[D / 2]``."""
        if self._speeds is None:
            factor = -math.log(max_period) * 2 / self.head_dim
            powers: Any = (mx.arange(self.head_dim // 2) * factor).tolist()
            self._speeds = mx.array([math.exp(power) for power in powers])
            mx.eval(self._speeds)
        return self._speeds

    def _by_hand(self, dtype: mx.Dtype) -> bool:
        return dtype == mx.float32 and not ops.on_gpu()

    def _queries(self) -> mx.array:
        return mx.arange(self.num_heads + 2 * self.num_kv_heads) < self.num_heads

    def _values(self) -> mx.array:
        heads = mx.arange(self.num_heads + 2 * self.num_kv_heads)
        return heads >= self.num_heads + self.num_kv_heads

    def split(
        self, qkv: mx.array, b: int, t: int, table: Table, together: bool = False
    ) -> tuple[mx.array, ...]:
        """Queries ``[B, H, T, D]``, keys and values ``[B, H_kv, T, D]``, rotated.

        Args:
            together: return keys and values as one array ``[B, 2 H_kv, T, D]``.
        """
        h, kv, d = self.num_heads, self.num_kv_heads, self.head_dim
        by_hand = self._by_hand(qkv.dtype)
        if by_hand and table is not None:
            qkv = self._turn(qkv, b, t, table)
        if t == 1:
            heads = qkv.reshape(b, h + 2 * kv, 1, d)
        else:
            heads = qkv.reshape(b, t, h + 2 * kv, d).swapaxes(1, 2)
        if by_hand or table is None:
            return tuple(mx.split(heads, [h] if together else [h, h + kv], axis=1))
        qk = mx.fast.rope(
            heads[:, : h + kv],
            d,
            traditional=self.interleaved,
            base=self.max_period,
            scale=1.0,
            offset=table,
        )
        q, k, v = qk[:, :h], qk[:, h:], heads[:, h + kv :]
        return (q, mx.concatenate([k, v], axis=1)) if together else (q, k, v)

    def _turn(self, qkv: mx.array, b: int, t: int, table: mx.array) -> mx.array:
        if table.dtype != mx.complex64:
            return qkv * table
        if not self.interleaved:
            qkv = _transposed(qkv, 2, self.head_dim // 2)
        if table.shape[:2] == (1, 1):  # one position, the same in all rows
            turned = qkv.view(mx.complex64) * table.reshape(1, -1)
        else:
            turned = qkv.view(mx.complex64).reshape(b, t, *table.shape[2:]) * table
        turned = turned.view(mx.float32)
        if self.interleaved:
            return turned
        return _transposed(turned.reshape(b * t, -1), self.head_dim // 2, 2)

    def attend(
        self, q: mx.array, k: mx.array, v: mx.array, mask: mx.array | None
    ) -> mx.array:
        """Attention of the queries to keys and values, as ``[B * T, H * D]``."""
        b, h, t, d = q.shape
        repeat = h // k.shape[1]
        scaled = self._by_hand(q.dtype)
        if t == 1 and k.shape[2] == 1 and mask is None:
            y = v if repeat == 1 else mx.repeat(v, repeat, axis=1)  # a single key
        elif scaled and t == 1 and repeat == 1:
            scores = q @ k.swapaxes(-1, -2)
            if mask is not None:
                scores = mx.where(mask, scores, -mx.inf)
            y = mx.softmax(scores, axis=-1) @ v
        else:
            scale = 1.0 if scaled else self.scale
            y = mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)
        if t > 1:
            y = y.swapaxes(1, 2)
        return y.reshape(b * t, h * d)

    def attend_packed(
        self, q: mx.array, k: Packed, v: Packed, mask: mx.array | None
    ) -> mx.array:
        """Like ``attend``, with quantised keys and values."""
        b, h, t, d = q.shape
        scale = 1.0 if self._by_hand(q.dtype) else self.scale
        y = attend(q, k, v, scale, mask)
        return (y if t == 1 else y.swapaxes(1, 2)).reshape(b * t, h * d)


def _transposed(x: mx.array, rows: int, columns: int) -> mx.array:
    """``x [N, H * rows * columns]`` with each head's matrix transposed."""
    matrices = x.reshape(x.shape[0], -1, rows, columns)
    return mx.contiguous(matrices.swapaxes(-1, -2)).reshape(x.shape)
