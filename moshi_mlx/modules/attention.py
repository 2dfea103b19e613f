"""Self-attention over a stream, and cross-attention to a condition."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlx.core as mx
import mlx.nn as nn

from . import ops
from .heads import Heads, Table
from .kv_cache import KVCache, Plan, RotatingKVCache
from .quantized_kv import QuantizedKVCache

if TYPE_CHECKING:
    from .transformer import TransformerConfig


SelfCache = KVCache | RotatingKVCache | QuantizedKVCache


@dataclass
class LayerCache:
    """What one layer remembers of a stream.

    ``cross_attn`` holds the condition it was computed from, with its keys and values.
    """

    self_attn: SelfCache
    cross_attn: tuple[mx.array, mx.array, mx.array] | None = None

    def reset(self, rows: list[int] | None = None) -> None:
        """Forget the stream, or the given rows of its batch."""
        self.self_attn.reset(rows)
        self.cross_attn = None


def make_heads(cfg: "TransformerConfig") -> Heads:
    """Heads as the config describes them, rotated or not."""
    rotated = cfg.positional_embedding in ("rope", "sin_rope", "rope_concat")
    return Heads(
        cfg.num_heads,
        cfg.num_heads // cfg.kv_repeat,
        cfg.head_dim,
        cfg.max_period if rotated else None,
        interleaved=cfg.positional_embedding != "rope_concat",
    )


class Attention(nn.Module):
    """Causal self-attention; ``kv_repeat`` query heads share one key and value head.

    Shape: rows ``[B * T, D]`` to ``project``; the result is rows ``[B * T, D]`` too.
    Source: kyutai-labs/moshi, modules/transformer.py:StreamingMultiheadAttention.
    """

    def __init__(self, cfg: "TransformerConfig"):
        super().__init__()
        kv_heads = cfg.num_heads // cfg.kv_repeat
        width = (cfg.num_heads + 2 * kv_heads) * cfg.head_dim
        self.in_proj = nn.Linear(cfg.d_model, width, bias=cfg.bias_attn)
        self.out_proj = nn.Linear(cfg.d_model, cfg.d_model, bias=cfg.bias_attn)
        self._heads = make_heads(cfg)

    def project(
        self, x: mx.array, b: int, t: int, table: Table
    ) -> tuple[mx.array, mx.array, mx.array]:
        """Queries ``[B, H, T, D]``, keys and values ``[B, H_kv, T, D]``, rotated."""
        return self._heads.split(ops.project(x, self.in_proj), b, t, table)

    def __call__(
        self, q: mx.array, k: mx.array, v: mx.array, cache: SelfCache, plan: Plan
    ) -> mx.array:
        """Everything but the projections; the output's is joined with the sum."""
        if isinstance(cache, QuantizedKVCache):
            packed = cache.update(k, v, plan)
            return self._heads.attend_packed(q, *packed, plan.mask)
        k, v = cache.update(k, v, plan)
        return self._heads.attend(q, k, v, plan.mask)


class CrossAttention(nn.Module):
    """Attention of every position to the whole condition: no mask, no rotation.

    Keys and values are computed once per condition array and kept in the layer's cache.

    Shape: rows ``[B * T, D]``, condition ``[B, S, D] -> [B * T, D]``.
    Source: as ``Attention``.
    """

    def __init__(self, cfg: "TransformerConfig"):
        super().__init__()
        if cfg.kv_repeat != 1:
            raise ValueError(
                f"cross-attention got kv_repeat={cfg.kv_repeat}: only 1 is defined."
            )
        self.head_dim = cfg.head_dim
        self.in_proj = nn.Linear(cfg.d_model, 3 * cfg.d_model, bias=cfg.bias_attn)
        self.out_proj = nn.Linear(cfg.d_model, cfg.d_model, bias=cfg.bias_attn)
        self.scale = self.head_dim**-0.5

    def _project(self, x: mx.array, rows: slice) -> mx.array:
        """Project by some output rows of ``in_proj``, plain or quantised."""
        proj = self.in_proj
        if isinstance(proj, nn.QuantizedLinear):
            biases = proj.get("biases")
            y = mx.quantized_matmul(
                x,
                proj["weight"][rows],
                scales=proj["scales"][rows],
                biases=None if biases is None else biases[rows],
                transpose=True,
                group_size=proj.group_size,
                bits=proj.bits,
                mode=proj.mode,
            )
        else:
            y = x @ proj["weight"][rows].T
        return y + proj["bias"][rows] if "bias" in proj else y

    def _heads(self, x: mx.array, b: int) -> mx.array:
        return x.reshape(b, -1, x.shape[-1] // self.head_dim, self.head_dim).swapaxes(
            1, 2
        )

    def remember(
        self, condition: mx.array, cache: LayerCache, b: int, dtype: mx.Dtype
    ) -> tuple[mx.array, mx.array]:
        """Keys and values of the condition, ``[B, H, S, D]``."""
        if cache.cross_attn is None or cache.cross_attn[0] is not condition:
            d = condition.shape[-1]
            source = mx.broadcast_to(condition.astype(dtype), (b, *condition.shape[1:]))
            kv = self._heads(self._project(source, slice(d, 3 * d)), b)
            k, v = mx.split(kv, 2, axis=1)
            cache.cross_attn = condition, mx.contiguous(k), mx.contiguous(v)
        return cache.cross_attn[1:]

    def __call__(self, x: mx.array, k: mx.array, v: mx.array) -> mx.array:
        """Attention to what ``remember`` gave; as ``Attention``, not yet projected."""
        d = x.shape[-1]
        q = self._heads(self._project(x, slice(0, d)), k.shape[0])
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return y.swapaxes(1, 2).reshape(-1, d)
