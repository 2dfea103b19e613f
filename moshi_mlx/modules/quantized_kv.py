"""Keys and values in 8 bits: half the memory, and half the reading, of 16.

A long conversation's keys and values are read whole in every step. Here they are
rounded to a scale and an offset per group when they are written, after rotation, and
attention computes from them as they are: nothing is unpacked to memory.
"""

from typing import NamedTuple

import mlx.core as mx

from .ring import Plan, Ring

KV_BITS = (4, 8)
GROUPS = (64, 32)  # numbers of a head that share a scale: the first that divides it


class Packed(NamedTuple):
    """Numbers ``[B, H, T, D]`` in few bits, as ``mx.quantize`` gives them."""

    words: mx.array  # uint32 [B, H, T, D * bits / 32]
    scales: mx.array  # [B, H, T, D / group]
    biases: mx.array  # likewise

    def split(self, heads: int) -> "tuple[Packed, Packed]":
        """The first heads, and the others."""
        first = Packed(*(part[:, :heads] for part in self))
        return first, Packed(*(part[:, heads:] for part in self))

    def layout(self, dim: int) -> tuple[int, int]:
        """Group size and bits, of heads ``dim`` wide."""
        return dim // self.scales.shape[-1], 32 * self.words.shape[-1] // dim


def group_size(head_dim: int, bits: int) -> int:
    """How many numbers share a scale.

    Raises: ValueError for bits or heads that cannot be packed so.
    """
    if bits not in KV_BITS:
        raise ValueError(
            f"keys and values cannot be kept in {bits!r} bits: use "
            f"{' or '.join(map(str, KV_BITS))}."
        )
    found = next((group for group in GROUPS if head_dim % group == 0), None)
    if found is None:
        raise ValueError(
            f"keys and values of heads {head_dim} wide cannot be kept in {bits} bits, "
            f"only where the width is a multiple of {GROUPS[-1]}: leave them as they "
            "are."
        )
    return found


class QuantizedKVCache(Ring):
    """The ring in ``bits`` a number, as ``RotatingKVCache`` otherwise.

    Keys and values lie in the same arrays, keys' heads first, so that one call packs
    and three write what a step adds.

    Args:
        bits: 8 or 4.

    Raises: ValueError for bits or heads that cannot be packed so.
    """

    def __init__(
        self,
        head_dim: int,
        n_kv_heads: int,
        max_size: int,
        bits: int = 8,
        step: int = 256,
    ):
        self.head_dim = head_dim
        self.n_kv_heads = n_kv_heads
        self.bits = bits
        self.group_size = group_size(head_dim, bits)
        super().__init__(max_size, step)

    def layout(
        self, rows: int, slots: int, dtype: mx.Dtype
    ) -> list[tuple[tuple[int, ...], mx.Dtype]]:
        shape = rows, 2 * self.n_kv_heads, slots
        words = (*shape, self.head_dim * self.bits // 32), mx.uint32
        scales = (*shape, self.head_dim // self.group_size), dtype
        return [words, scales, scales]

    def update(
        self, keys: mx.array, values: mx.array, plan: Plan
    ) -> tuple[Packed, Packed]:
        """Pack and store ``[B, H, T, D]``; return what the plan attends to."""
        both = mx.concatenate([keys, values], axis=1)
        live = self.store(mx.quantize(both, self.group_size, self.bits), plan)
        return Packed(*live).split(self.n_kv_heads)


def attend(
    q: mx.array, keys: Packed, values: Packed, scale: float, mask: mx.array | None
) -> mx.array:
    """Attention of queries ``[B, H, T, D]`` to packed keys and values; same shape.

    Args:
        mask: true = visible, ``[B or 1, 1, T, live]``, or None.
    """
    b, h, t, d = q.shape
    kv_heads, layout = keys.words.shape[1], keys.layout(d)
    if scale != 1.0:
        q = q * scale
    # query heads that share a key head are rows of one product
    q = q.reshape(b, kv_heads, -1, d)
    scores = mx.quantized_matmul(q, *keys, True, *layout)
    if mask is not None:
        scores = mx.where(mask, scores.reshape(b, h, t, -1), -mx.inf)
    weights = mx.softmax(scores, axis=-1, precise=True)
    weights = weights.reshape(b, kv_heads, -1, weights.shape[-1])
    y = mx.quantized_matmul(weights, *values, False, *layout)
    return y.reshape(b, h, t, d)
