"""Keys and values in 8 bits: half the memory of 16 bits, and half to read.

Every step reads all keys and values of a long conversation. Here they are quantised
when they are written, after rotation: each group of numbers shares a scale and an
offset. Attention computes on the quantised values; they are never unpacked to memory.
"""

from typing import NamedTuple

import mlx.core as mx

from .ring import Plan, Ring

KV_BITS = (4, 8)
GROUPS = (64, 32)  # group sizes: the first that divides a head's width


class Packed(NamedTuple):
    """Quantised numbers ``[B, H, T, D]``, as ``mx.quantize`` returns them."""

    words: mx.array  # uint32 [B, H, T, D * bits / 32]
    scales: mx.array  # [B, H, T, D / group]
    biases: mx.array  # likewise

    def split(self, heads: int) -> "tuple[Packed, Packed]":
        """The first heads, and the rest."""
        first = Packed(*(part[:, :heads] for part in self))
        return first, Packed(*(part[:, heads:] for part in self))

    def layout(self, dim: int) -> tuple[int, int]:
        """Group size and bits, for heads ``dim`` wide."""
        return dim // self.scales.shape[-1], 32 * self.words.shape[-1] // dim


def group_size(head_dim: int, bits: int) -> int:
    """How many numbers share a scale.

    Raises: ValueError for bits or a head width that cannot be quantised.
    """
    if bits not in KV_BITS:
        raise ValueError(
            f"keys and values cannot be kept in {bits!r} bits: use "
            f"{' or '.join(map(str, KV_BITS))}."
        )
    found = next((group for group in GROUPS if head_dim % group == 0), None)
    if found is None:
        raise ValueError(
            f"heads {head_dim} wide cannot be kept in {bits} bits, only those whose "
            f"width is a multiple of {GROUPS[-1]}: leave keys and values unquantised."
        )
    return found


class QuantizedKVCache(Ring):
    """A ``RotatingKVCache`` whose numbers have ``bits`` bits each.

    Keys and values share the same arrays, the keys' heads first, so that one call packs
    and three calls write what a step adds.

    Args:
        bits: 8 or 4.

    Raises: ValueError for bits or a head width that cannot be quantised.
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
