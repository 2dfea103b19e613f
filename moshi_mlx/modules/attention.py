"""Self-attention over a stream, and cross-attention to a condition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from . import quantized_kv
from .kv_cache import KVCache, Plan, RotatingKVCache
from .quantized_kv import Packed, QuantizedKVCache
from .ring import Ring
from .transformer_config import TransformerConfig

SelfCache = KVCache | RotatingKVCache | QuantizedKVCache


@dataclass(frozen=True)
class Masked:
    """A condition whose rows are of different length: no row sees what fills it up.

    Attributes:
        values: ``[B, S, D]``.
        seen: bool ``[B, S]``, true where a row's own condition is.
    """

    values: mx.array
    seen: mx.array

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the values."""
        return self.values.shape


Condition = mx.array | Masked


@dataclass
class LayerCache:
    """What one layer remembers of a stream.

    ``cross_attn`` holds the condition it was computed from, with its keys and values,
    and the mask of a ``Masked`` one.
    If all layers share them, the first layer's are used. ``gate`` says how much of the
    condition a gated layer let through in the latest call, ``[B, T]``; None without
    one.
    """

    self_attn: SelfCache
    cross_attn: tuple[Any, ...] | None = None
    gate: mx.array | None = None

    def reset(self, rows: list[int] | None = None) -> None:
        """Forget the stream, or the given rows of its batch."""
        self.self_attn.reset(rows)
        self.cross_attn = self.gate = None

    @property
    def state(self) -> dict[str, Any]:
        """The layer's state; may be set to another layer's."""
        return self.snapshot()

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self.restore(state)

    def snapshot(self, rows: Sequence[int] | None = None) -> dict[str, Any]:
        """The state of all rows of the batch, or of some."""
        if rows is not None:  # a condition's keys and values are computed again
            assert isinstance(self.self_attn, Ring)
            return {"self_attn": self.self_attn.snapshot(rows), "cross_attn": None}
        made = self.cross_attn
        again = made is None or isinstance(made[0], Masked)  # is not an array
        cross = None if again or made is None else list(made)
        return {"self_attn": self.self_attn.snapshot(), "cross_attn": cross}

    def restore(
        self,
        state: Mapping[str, Any],
        rows: Sequence[int] | None = None,
        batch_size: int = 0,
    ) -> None:
        """Continue from ``snapshot``, in all rows or in some of a larger batch."""
        if rows is not None:
            assert isinstance(self.self_attn, Ring)
            self.self_attn.restore(state["self_attn"], rows, batch_size)
        else:
            self.self_attn.restore(state["self_attn"])
            cross = state["cross_attn"]
            self.cross_attn = None if cross is None else tuple(cross)


class Attention(nn.Module):
    """Causal self-attention; ``kv_repeat`` query heads share one key and value head.

    Shape: ``[B, T, D] -> [B, T, D]``.
    Source: kyutai-labs/moshi, modules/transformer.py:StreamingMultiheadAttention.
    """

    def __init__(self, cfg: TransformerConfig):
        super().__init__()
        self.num_heads = cfg.num_heads
        self.kv_heads = cfg.kv_heads
        self.head_dim = cfg.head_dim
        self.scale = cfg.head_dim**-0.5
        width = (cfg.num_heads + 2 * cfg.kv_heads) * cfg.head_dim
        self.in_proj = nn.Linear(cfg.d_model, width, bias=cfg.bias_attn)
        self.out_proj = nn.Linear(cfg.d_model, cfg.d_model, bias=cfg.bias_attn)
        self.rope = None
        if cfg.rotated:
            interleaved = cfg.positional_embedding != "rope_concat"
            self.rope = nn.RoPE(cfg.head_dim, interleaved, cfg.max_period)

    def __call__(self, x: mx.array, cache: SelfCache | None, plan: Plan) -> mx.array:
        """Attend to the cache and to the ``T`` new positions, as ``plan`` allows.

        Args:
            cache: the stream so far, changed in place; None for a whole sequence.
            plan: which positions these are; see ``RotatingKVCache.plan``.
        """
        b, t, _ = x.shape
        qkv = self.in_proj(x).reshape(b, t, -1, self.head_dim).swapaxes(1, 2)
        h, kv = self.num_heads, self.kv_heads
        q, k, v = mx.split(qkv, [h, h + kv], axis=1)
        if self.rope is not None:
            start: Any = plan.start  # one position, or one per row
            q, k = self.rope(q, start), self.rope(k, start)
        if cache is not None:
            k, v = cache.update(k, v, plan)
        y = attend(q, k, v, self.scale, plan.mask)
        return self.out_proj(y.swapaxes(1, 2).reshape(b, t, -1))


def attend(
    q: mx.array,
    k: mx.array | Packed,
    v: mx.array | Packed,
    scale: float,
    mask: mx.array | None,
) -> mx.array:
    """Attention of ``q [B, H, T, D]`` to keys and values ``[B, H_kv, S, D]``, which may
    be quantised; ``mask`` is true if a key is visible."""
    if isinstance(k, Packed) or isinstance(v, Packed):
        assert isinstance(k, Packed) and isinstance(v, Packed)
        return quantized_kv.attend(q, k, v, scale, mask)
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)


class CrossAttention(nn.Module):
    """Attention of every position to the whole condition, without rotation.

    Shape: ``[B, T, D]``, condition ``[B or 1, S, D] -> [B, T, D]``.
    Source: as ``Attention``.
    """

    def __init__(self, cfg: TransformerConfig):
        super().__init__()
        if cfg.kv_repeat != 1:
            raise ValueError(
                f"cross-attention got kv_repeat={cfg.kv_repeat}: only 1 is defined."
            )
        self.head_dim = cfg.head_dim
        self.in_proj = nn.Linear(cfg.d_model, 3 * cfg.d_model, bias=cfg.bias_attn)
        self.out_proj = nn.Linear(cfg.d_model, cfg.d_model, bias=cfg.bias_attn)
        self.scale = self.head_dim**-0.5

    def __call__(
        self, x: mx.array, condition: Condition, cache: LayerCache | None
    ) -> mx.array:
        return self.look(x, *self.remember(condition, cache, x.shape[0], x.dtype))

    def look(
        self, x: mx.array, k: mx.array, v: mx.array, mask: mx.array | None = None
    ) -> mx.array:
        """Attend to the result of ``remember``: ``[B, T, D] -> [B, T, D]``."""
        b, t, d = x.shape
        q = self.split_heads(self.project(x, slice(0, d)), b)
        y = attend(q, k, v, self.scale, mask)
        return self.out_proj(y.swapaxes(1, 2).reshape(b, t, d))

    def remember(
        self, condition: Condition, cache: LayerCache | None, b: int, dtype: mx.Dtype
    ) -> tuple[mx.array, ...]:
        """Keys and values of the condition, ``[B, H, S, D]``, and the mask of a
        ``Masked`` one, ``[B, 1, 1, S]``.

        With a cache they are computed once per condition array.
        """
        known = None if cache is None else cache.cross_attn
        if known is not None and known[0] is condition:
            return known[1:]
        if isinstance(condition, Masked):
            values, mask = condition.values, (condition.seen[:, None, None],)
        else:
            values, mask = condition, ()
        d = values.shape[-1]
        source = mx.broadcast_to(values.astype(dtype), (b, *values.shape[1:]))
        kv = self.split_heads(self.project(source, slice(d, 3 * d)), b)
        k, v = (mx.contiguous(part) for part in mx.split(kv, 2, axis=1))
        if cache is not None:
            cache.cross_attn = condition, k, v, *mask
        return k, v, *mask

    def project(self, x: mx.array, outputs: slice) -> mx.array:
        """Some outputs of ``in_proj``; queries, keys and values follow one another."""
        return self.in_proj(x)[..., outputs]

    def split_heads(self, x: mx.array, b: int) -> mx.array:
        """``[B * T, H * D]`` or ``[B, T, H * D]`` ``-> [B, H, T, D]``."""
        return x.reshape(b, -1, x.shape[-1] // self.head_dim, self.head_dim).swapaxes(
            1, 2
        )
