"""Transformer stacks: causal, with an exact attention window.

The state of a stream is a list of ``LayerCache``, one per layer, outside the network.
Without it a call is a whole sequence; that is what trains.
"""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from .attention import Attention, Condition, CrossAttention, LayerCache
from .gated import ConditionGate, Seen
from .kv_cache import KVCache, Plan, RotatingKVCache
from .mlp import ACTIVATIONS, MlpGating, MlpNoGating, make_mlp
from .norm import make_norm
from .quantized_kv import QuantizedKVCache
from .transformer_config import POSITIONS, TransformerConfig

__all__ = [
    "ACTIVATIONS",
    "POSITIONS",
    "GatedLayer",
    "LayerCache",
    "LayerScale",
    "MlpGating",
    "MlpNoGating",
    "ProjectedTransformer",
    "Transformer",
    "TransformerConfig",
    "TransformerLayer",
]


class LayerScale(nn.Module):
    """A learnt factor per channel. Source: arXiv:2103.17239."""

    def __init__(self, dim: int):
        super().__init__()
        self.scale = mx.ones(dim)

    def __call__(self, x: mx.array) -> mx.array:
        return x * self["scale"]


class TransformerLayer(nn.Module):
    """Self-attention, cross-attention if configured, feed-forward; pre-norm.

    Shape: ``[B, T, D] -> [B, T, D]``.
    """

    def __init__(self, cfg: TransformerConfig):
        super().__init__()
        dim, eps = cfg.d_model, cfg.layer_norm_eps
        self.gating = make_mlp(cfg)
        self.norm1 = make_norm(cfg.norm, dim, eps)
        self.norm2 = make_norm(cfg.norm, dim, eps)
        self.self_attn = Attention(cfg)
        if cfg.layer_scale is not None:
            self.layer_scale_1 = LayerScale(dim)
            self.layer_scale_2 = LayerScale(dim)
        if cfg.cross_attention and not cfg.cross_gated:
            self.norm_cross = nn.LayerNorm(dim, 1e-5)  # whatever the other norms are
            self.cross_attention = CrossAttention(cfg)
            if cfg.layer_scale is not None:
                self.layer_scale_cross = LayerScale(dim)

    def __call__(
        self,
        x: mx.array,
        cache: LayerCache | None,
        plan: Plan,
        condition: Condition | Seen | None = None,
    ) -> mx.array:
        past = None if cache is None else cache.self_attn
        x = x + self._scaled("1", self.self_attn(self.norm1(x), past, plan))
        if condition is not None:
            x = x + self._scaled("cross", self.see(x, condition, cache))
        return x + self._scaled("2", self.gating(self.norm2(x)))

    def see(
        self, x: mx.array, condition: Condition | Seen, cache: LayerCache | None
    ) -> mx.array:
        """The contribution of the condition ``[B, S, D]`` to ``x``."""
        assert isinstance(condition, Condition)
        return self.cross_attention(self.norm_cross(x), condition, cache)

    def _scaled(self, which: str, y: mx.array) -> mx.array:
        name = f"layer_scale_{which}"
        return self[name](y) if name in self else y


class GatedLayer(TransformerLayer):
    """A layer that gates what it takes from a condition, if there is one."""

    def __init__(self, cfg: TransformerConfig):
        super().__init__(cfg)
        self.norm_cross = make_norm(cfg.norm, cfg.d_model, cfg.layer_norm_eps)
        self.cross_gate = ConditionGate(cfg.d_model)

    def see(
        self, x: mx.array, condition: Condition | Seen, cache: LayerCache | None
    ) -> mx.array:
        assert isinstance(condition, Seen)
        y = condition.attention.look(self.norm_cross(x), *condition.arrays)
        gate = self.cross_gate(y)
        if cache is not None:
            cache.gate = gate.mean(axis=-1)
        return gate * y


def sin_embedding(positions: mx.array, dim: int, max_period: float) -> mx.array:
    """Sinusoids ``[..., T, dim]`` of positions ``[..., T]``: cosines, then sines."""
    half = dim // 2
    exponent = mx.arange(half, dtype=mx.float32) / (half - 1)
    phase = positions[..., None].astype(mx.float32) / max_period**exponent
    return mx.concatenate([mx.cos(phase), mx.sin(phase)], axis=-1)


class Transformer(nn.Module):
    """A stack of layers.

    Shape: ``[B, T, D] -> [B, T, D]``, with any T in a call.
    Raises: ValueError for a config that cannot be built, for a condition given to a
        stack without cross-attention, and for a missing one.
    Source: arXiv:2410.00037; kyutai-labs/moshi, modules/transformer.py.
    """

    def __init__(self, cfg: TransformerConfig):
        super().__init__()
        cfg.validate()
        self.cfg = cfg
        layer = GatedLayer if cfg.cross_gated else TransformerLayer
        self.layers = [layer(cfg) for _ in range(cfg.num_layers)]
        if cfg.cross_gated:  # of all layers
            self.cross_attention = CrossAttention(cfg)

    def __call__(
        self,
        x: mx.array,
        cache: Sequence[LayerCache] | None = None,
        cross_attention_src: Condition | None = None,
        active: Sequence[bool] | None = None,
    ) -> mx.array:
        """Run ``T`` new positions.

        Args:
            cache: the stream so far, changed in place; None for a whole sequence.
            cross_attention_src: condition ``[B, S, D]`` for a stack with
                cross-attention; optional for a gated one.
            active: rows that advance; the output of the others is meaningless.
        """
        self.check_condition(cross_attention_src)
        plan = self.plan(x, cache, active)
        x = self.with_positions(x, plan)
        condition: Condition | Seen | None = cross_attention_src
        if self.cfg.cross_gated:
            condition = self.seen(cross_attention_src, cache, x)
        for i, layer in enumerate(self.layers):
            past = None if cache is None else cache[i]
            x = layer(x, past, plan, condition)
        return x

    def seen(
        self,
        condition: Condition | None,
        cache: Sequence[LayerCache] | None,
        x: mx.array,
    ) -> Seen | None:
        """A condition ``[B, S, D]`` as all layers of a gated stack see it."""
        for layer in cache or ():
            layer.gate = None
        if condition is None:
            return None
        first = None if cache is None else cache[0]
        attention = self.cross_attention
        return Seen(
            attention, *attention.remember(condition, first, x.shape[0], x.dtype)
        )

    def check_condition(self, condition: Condition | None) -> None:
        if self.cfg.cross_gated and condition is None:
            return
        if (condition is not None) != self.cfg.cross_attention:
            verb = "wants" if self.cfg.cross_attention else "does not take"
            raise ValueError(f"this transformer {verb} a cross_attention_src.")

    def plan(
        self,
        x: mx.array,
        cache: Sequence[LayerCache] | None,
        active: Sequence[bool] | None,
    ) -> Plan:
        """The positions of ``x [B, T, D]``, and what each of them may see."""
        b, t, _ = x.shape
        if cache is not None:
            return cache[0].self_attn.plan(b, t, active)
        cfg = self.cfg
        new = RotatingKVCache(cfg.head_dim, cfg.kv_heads, cfg.context)
        return new.plan(b, t, active)

    def with_positions(self, x: mx.array, plan: Plan) -> mx.array:
        """``x`` with sinusoids added, if the stack marks positions in that way."""
        if not self.cfg.positional_embedding.startswith("sin"):
            return x
        _, t, d = x.shape
        positions = mx.array(plan.start).reshape(-1, 1) + mx.arange(t)
        return x + sin_embedding(positions, d, self.cfg.max_period).astype(x.dtype)

    def make_rot_cache(self, kv_bits: int | None = None) -> list[LayerCache]:
        """State of a new stream: bounded, and endless.

        Args:
            kv_bits: bits of keys and values, instead of the config's.
        """
        cfg = self.cfg
        shape = cfg.head_dim, cfg.kv_heads, cfg.context
        bits = cfg.kv_bits if kv_bits is None else kv_bits
        if bits is None:
            return [LayerCache(RotatingKVCache(*shape)) for _ in self.layers]
        return [LayerCache(QuantizedKVCache(*shape, bits)) for _ in self.layers]

    make_cache = make_rot_cache

    def make_frame_cache(self) -> list[LayerCache]:
        """State of one short sequence, in which a position sees all previous ones."""
        cfg = self.cfg
        return [LayerCache(KVCache(cfg.head_dim, cfg.kv_heads)) for _ in self.layers]


class ProjectedTransformer(nn.Module):
    """A stack between projections, with one output per entry of ``output_dims``.

    Shape: ``[B, T, C]`` in and out, or ``[B, C, T]`` if ``cfg.conv_layout`` is set.
    """

    def __init__(
        self, cfg: TransformerConfig, input_dim: int, output_dims: Sequence[int]
    ):
        super().__init__()
        self.conv_layout = cfg.conv_layout
        self.transformer = Transformer(cfg)
        self.input_proj = _projection(input_dim, cfg.d_model)
        self.output_projs = [_projection(cfg.d_model, dim) for dim in output_dims]

    def __call__(
        self,
        x: mx.array,
        cache: Sequence[LayerCache] | None = None,
        cross_attention_src: Condition | None = None,
        active: Sequence[bool] | None = None,
    ) -> list[mx.array]:
        if self.conv_layout:
            x = x.swapaxes(1, 2)
        if self.input_proj is not None:
            x = self.input_proj(x)
        x = self.transformer(x, cache, cross_attention_src, active)
        outs = [x if proj is None else proj(x) for proj in self.output_projs]
        return [y.swapaxes(1, 2) for y in outs] if self.conv_layout else outs

    def make_rot_cache(self) -> list[LayerCache]:
        return self.transformer.make_rot_cache()

    make_cache = make_rot_cache


def _projection(dim_in: int, dim_out: int) -> nn.Linear | None:
    return None if dim_in == dim_out else nn.Linear(dim_in, dim_out, bias=False)
