"""Self-attention over a stream, and cross-attention to a condition."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlx.core as mx
import mlx.nn as nn

from . import ops
from .kv_cache import KVCache, Plan, RotatingKVCache

if TYPE_CHECKING:
    from .transformer import TransformerConfig


@dataclass
class LayerCache:
    """What one layer remembers of a stream.

    ``cross_attn`` holds the condition it was computed from, with its keys and values.
    """

    self_attn: KVCache | RotatingKVCache
    cross_attn: tuple[mx.array, mx.array, mx.array] | None = None

    def reset(self, rows: list[int] | None = None) -> None:
        """Forget the stream, or the given rows of its batch."""
        self.self_attn.reset(rows)
        self.cross_attn = None


def rotary(cfg: "TransformerConfig") -> ops.Rotary | None:
    """The rotation that the config asks for, None where positions are not rotated."""
    if cfg.positional_embedding not in ("rope", "sin_rope", "rope_concat"):
        return None
    interleaved = cfg.positional_embedding != "rope_concat"
    return ops.Rotary(cfg.head_dim, cfg.max_period, traditional=interleaved)


class Attention(nn.Module):
    """Causal self-attention; ``kv_repeat`` query heads share one key and value head.

    Shape: ``[B, T, D] -> [B, T, D]``.
    Source: kyutai-labs/moshi, modules/transformer.py:StreamingMultiheadAttention.
    """

    def __init__(self, cfg: "TransformerConfig"):
        super().__init__()
        self.num_heads = cfg.num_heads
        self.num_kv_heads = cfg.num_heads // cfg.kv_repeat
        self.head_dim = cfg.head_dim
        width = (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
        self.in_proj = nn.Linear(cfg.d_model, width, bias=cfg.bias_attn)
        self.out_proj = nn.Linear(cfg.d_model, cfg.d_model, bias=cfg.bias_attn)
        self.scale = self.head_dim**-0.5
        self._rotary = rotary(cfg)

    def __call__(
        self,
        x: mx.array,
        cache: KVCache | RotatingKVCache,
        plan: Plan,
        rotation: int | mx.array | None,
    ) -> mx.array:
        """Everything but the output projection, which the layer joins with its sum."""
        b, t, _ = x.shape
        h, kv = self.num_heads, self.num_kv_heads
        qkv = self.in_proj(x).reshape(b, t, h + 2 * kv, self.head_dim).swapaxes(1, 2)
        qk, v = qkv[:, : h + kv], qkv[:, h + kv :]
        if self._rotary is not None and rotation is not None:
            qk = self._rotary.rotate(qk, rotation)
        k, v = cache.update(qk[:, h:], v, plan)
        y = mx.fast.scaled_dot_product_attention(
            qk[:, :h], k, v, scale=self.scale, mask=plan.mask
        )
        return y.swapaxes(1, 2).reshape(b, t, h * self.head_dim)


class CrossAttention(nn.Module):
    """Attention of every position to the whole condition: no mask, no rotation.

    Keys and values are computed once per condition array and kept in the layer's cache.

    Shape: ``[B, T, D], condition [B, S, D] -> [B, T, D]``.
    Source: as ``Attention``.
    """

    def __init__(self, cfg: "TransformerConfig"):
        super().__init__()
        if cfg.kv_repeat != 1:
            raise ValueError(
                f"cross-attention got kv_repeat={cfg.kv_repeat}: only 1 is defined."
            )
        self.num_heads = cfg.num_heads
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

    def _heads(self, x: mx.array) -> mx.array:
        b, t, _ = x.shape
        return x.reshape(b, t, -1, self.head_dim).swapaxes(1, 2)

    def __call__(self, x: mx.array, condition: mx.array, cache: LayerCache) -> mx.array:
        b, t, d = x.shape
        if cache.cross_attn is None or cache.cross_attn[0] is not condition:
            kv = self._heads(self._project(condition, slice(d, 3 * d)))
            k, v = mx.split(kv, 2, axis=1)
            cache.cross_attn = condition, mx.contiguous(k), mx.contiguous(v)
        _, k, v = cache.cross_attn
        q = self._heads(self._project(x, slice(0, d)))
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return y.swapaxes(1, 2).reshape(b, t, d)
