"""Transformer stacks: configuration, feed-forward blocks, layers.

Always causal with an exact window. State lives in a list of ``LayerCache``, one per
layer; a call without cache works on a whole sequence.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import mlx.core as mx
import mlx.nn as nn

from . import ops
from .attention import Attention, CrossAttention, LayerCache, make_heads
from .compiled import Compiled, Function
from .heads import Table
from .kv_cache import KVCache, RotatingKVCache
from .norm import make_norm
from .quantized_kv import QuantizedKVCache

ACTIVATIONS: dict[str, Callable[[mx.array], mx.array]] = {
    "silu": ops.silu,
    "gelu": ops.gelu,
    "sigmoid": mx.sigmoid,
    "tanh": mx.tanh,
    "relu": lambda x: mx.maximum(x, 0),
    "leaky_relu": lambda x: mx.maximum(x, 0.01 * x),
    "elu": lambda x: mx.where(x > 0, x, mx.expm1(mx.minimum(x, 0))),
    "mish": lambda x: x * mx.tanh(mx.logaddexp(x, 0)),
    "softsign": lambda x: x / (1 + mx.abs(x)),
    "identity": lambda x: x,
}
POSITIONS = ("none", "sin", "rope", "sin_rope", "rope_concat")


@dataclass
class TransformerConfig:
    """One stack. The first 21 fields are moshi_mlx 0.3.0's, with its meaning.

    ``context`` rules the attention window (positions); ``max_seq_len`` is kept for
    programs that set it and limits nothing. ``gating=True`` is silu; a name of
    ``ACTIVATIONS`` is that activation; False or "none" is a plain two-layer block.

    ``gating_dim`` (width inside a gated block), ``norm_eps`` and ``layer_scale_cross``
    are explicit where a config.json was read; None keeps 0.3.0's rules. ``kv_bits``
    (8 or 4) is what new streams keep their keys and values in; None: as computed.
    """

    d_model: int
    num_heads: int
    num_layers: int
    causal: bool
    norm_first: bool
    bias_ff: bool
    bias_attn: bool
    layer_scale: float | None
    positional_embedding: str
    use_conv_block: bool
    cross_attention: bool
    conv_kernel_size: int
    use_conv_bias: bool
    gating: bool | str
    norm: str
    context: int
    max_period: float
    max_seq_len: int
    kv_repeat: int
    dim_feedforward: int
    conv_layout: bool
    gating_dim: int | None = None
    norm_eps: float | None = None
    kv_bits: int | None = None

    @property
    def head_dim(self) -> int:
        return self.d_model // self.num_heads

    @property
    def gated_width(self) -> int:
        """Width inside a gated block: explicit, or by 0.3.0's rule."""
        if self.gating_dim is not None:
            return self.gating_dim
        if self.dim_feedforward == 4 * self.d_model:
            return 11 * self.d_model // 4
        return 2 * self.dim_feedforward // 3

    def validate(self) -> None:
        """Raise ValueError, in one sentence, for what cannot be computed."""
        if self.d_model % self.num_heads or self.num_heads % self.kv_repeat:
            raise ValueError(
                f"{self.num_heads} heads (kv_repeat {self.kv_repeat}) do not divide "
                f"a width of {self.d_model}."
            )
        if self.positional_embedding not in POSITIONS:
            raise ValueError(
                f"positional_embedding {self.positional_embedding!r} is unknown: use "
                f"one of {', '.join(POSITIONS)}."
            )
        for name, value, wanted in (
            ("causal", self.causal, True),
            ("norm_first", self.norm_first, True),
            ("use_conv_block", self.use_conv_block, False),
        ):
            if bool(value) != wanted:
                raise ValueError(f"{name}={value} is not supported: set {wanted}.")


class LayerScale(nn.Module):
    """A learnt factor per channel. Source: arXiv:2103.17239."""

    def __init__(self, dim: int):
        super().__init__()
        self.scale = mx.ones(dim)

    def __call__(self, x: mx.array) -> mx.array:
        return x * self["scale"]


class MlpGating(nn.Module):
    """``linear_out(activation(first half) * second half)`` of ``linear_in(x)``."""

    def __init__(self, cfg: TransformerConfig):
        super().__init__()
        hidden = cfg.gated_width
        self.linear_in = nn.Linear(cfg.d_model, 2 * hidden, bias=cfg.bias_ff)
        self.linear_out = nn.Linear(hidden, cfg.d_model, bias=cfg.bias_ff)
        name = "silu" if cfg.gating is True else str(cfg.gating)
        if name not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"gating {name!r} is unknown: use one of {known}.")
        self._activation = ACTIVATIONS[name]

    def hidden(self, x: mx.array) -> mx.array:
        gate, x = mx.split(ops.project(x, self.linear_in), 2, axis=-1)
        return self._activation(gate) * x

    @property
    def last(self) -> nn.Module:
        return self.linear_out


class MlpNoGating(nn.Module):
    """``linear2(gelu(linear1(x)))``, the GELU exact."""

    def __init__(self, cfg: TransformerConfig):
        super().__init__()
        self.linear1 = nn.Linear(cfg.d_model, cfg.dim_feedforward, bias=cfg.bias_ff)
        self.linear2 = nn.Linear(cfg.dim_feedforward, cfg.d_model, bias=cfg.bias_ff)

    def hidden(self, x: mx.array) -> mx.array:
        return ops.gelu(ops.project(x, self.linear1))

    @property
    def last(self) -> nn.Module:
        return self.linear2


class TransformerLayer(nn.Module):
    """Self-attention, cross-attention where configured, feed-forward; norms first.

    Shape: rows ``[B * T, D] -> [B * T, D]``.
    """

    def __init__(self, cfg: TransformerConfig):
        super().__init__()
        dim = cfg.d_model
        plain = cfg.gating in (False, "none")
        self.gating = MlpNoGating(cfg) if plain else MlpGating(cfg)
        self.norm1 = make_norm(cfg.norm, dim, _norm_eps(cfg))
        self.norm2 = make_norm(cfg.norm, dim, _norm_eps(cfg))
        self.self_attn = Attention(cfg)
        if cfg.layer_scale is not None:
            self.layer_scale_1 = LayerScale(dim)
            self.layer_scale_2 = LayerScale(dim)
        if cfg.cross_attention:
            self.norm_cross = nn.LayerNorm(dim, 1e-5)  # whatever the other norms are
            self.cross_attention = CrossAttention(cfg)
            if cfg.layer_scale is not None:
                self.layer_scale_cross = LayerScale(dim)

    def _add(self, x: mx.array, y: mx.array, last: nn.Module, scale: str) -> mx.array:
        """``x + scale * last(y)``, the scale where the layer has one."""
        if scale in self:
            return x + self[scale](ops.project(y, last))
        return ops.project_add(y, x, last)

    def before(
        self, x: mx.array, b: int, t: int, table: Table
    ) -> tuple[mx.array, mx.array, mx.array]:
        """What self-attention is given: queries, keys and values."""
        return self.self_attn.project(self.norm1(x), b, t, table)

    def after(self, x: mx.array, y: mx.array, *condition: mx.array) -> mx.array:
        """The layer's output, of its input ``x`` and what self-attention found.

        ``condition`` is its keys and values, where the layer attends to one.
        """
        x = self._add(x, y, self.self_attn.out_proj, "layer_scale_1")
        if condition:
            y = self.cross_attention(self.norm_cross(x), *condition)
            x = self._add(x, y, self.cross_attention.out_proj, "layer_scale_cross")
        y = self.gating.hidden(self.norm2(x))
        return self._add(x, y, self.gating.last, "layer_scale_2")


def _norm_eps(cfg: TransformerConfig) -> float | None:
    """0.3.0 built "rms_norm" with 1e-8; a config read from JSON says its own."""
    if cfg.norm_eps is None and cfg.norm == "rms_norm":
        return 1e-8
    return cfg.norm_eps


def sin_embedding(positions: mx.array, dim: int, max_period: float) -> mx.array:
    """Sinusoids ``[..., T, dim]`` of positions ``[..., T]``: cosines, then sines."""
    half = dim // 2
    exponent = mx.arange(half, dtype=mx.float32) / (half - 1)
    phase = positions[..., None].astype(mx.float32) / max_period**exponent
    return mx.concatenate([mx.cos(phase), mx.sin(phase)], axis=-1)


class Transformer(nn.Module):
    """A stack of layers.

    Shape: ``[B, T, D] -> [B, T, D]``, any T per call; past calls are in ``cache``.
    Raises: ValueError for a config that cannot be computed, for a condition given to a
        stack without cross-attention, and for one missing where there is.
    Source: arXiv:2410.00037; kyutai-labs/moshi, modules/transformer.py.
    """

    def __init__(self, cfg: TransformerConfig):
        super().__init__()
        cfg.validate()
        self.cfg = cfg
        self.layers = [TransformerLayer(cfg) for _ in range(cfg.num_layers)]
        self._heads = make_heads(cfg)

    def __call__(
        self,
        x: mx.array,
        cache: Sequence[LayerCache] | None = None,
        cross_attention_src: mx.array | None = None,
        active: Sequence[bool] | None = None,
        compiled: Compiled | None = None,
    ) -> mx.array:
        """Run ``T`` new positions.

        Args:
            cache: the stream so far, changed in place; None is a new stream.
            cross_attention_src: condition ``[B, S, D]`` of a cross-attending stack.
            active: which rows advance; the others' output is meaningless.
            compiled: keeps what runs between the attentions, for calls of few shapes.
        """
        if (cross_attention_src is not None) != self.cfg.cross_attention:
            verb = "wants" if self.cfg.cross_attention else "has no use for"
            raise ValueError(f"this transformer {verb} a cross_attention_src.")
        cache = self.make_rot_cache() if cache is None else cache
        b, t, d = x.shape
        plan = cache[0].self_attn.plan(b, t, active)
        if self.cfg.positional_embedding.startswith("sin"):
            start = mx.array(plan.start).reshape(-1, 1)
            wave = sin_embedding(start + mx.arange(t), d, self.cfg.max_period)
            x = x + wave.astype(x.dtype)
        table = self._heads.table(plan.start, t, x.dtype)
        x = x.reshape(b * t, d)
        y: mx.array | None = None
        condition: tuple[mx.array, ...] = ()
        for i in range(len(self.layers) + 1):
            part: Function = partial(self._between_attentions, i, b, t)
            if compiled is not None:
                part = compiled((i, b, t), part)
            x, *qkv = part(x, table, y, *condition)
            if qkv:
                layer, layer_cache = self.layers[i], cache[i]
                y = layer.self_attn(*qkv, layer_cache.self_attn, plan)
                if cross_attention_src is not None:
                    condition = layer.cross_attention.remember(
                        cross_attention_src, layer_cache, b, x.dtype
                    )
        return x.reshape(b, t, d)

    def _between_attentions(
        self,
        i: int,
        b: int,
        t: int,
        x: mx.array,
        table: Table,
        y: mx.array | None,
        *condition: mx.array,
    ) -> tuple[mx.array, ...]:
        """From layer i - 1's attention to layer i's: arrays in, arrays out, no state.

        Returns: layer i's input, then its queries, keys and values; after the last
            layer the output alone.
        """
        if y is not None:
            x = self.layers[i - 1].after(x, y, *condition)
        if i == len(self.layers):
            return (x,)
        return x, *self.layers[i].before(x, b, t, table)

    def make_rot_cache(self, kv_bits: int | None = None) -> list[LayerCache]:
        """State of a new stream: bounded, endless.

        Args:
            kv_bits: of keys and values, instead of the config's.
        """
        cfg = self.cfg
        kv_heads = cfg.num_heads // cfg.kv_repeat
        shape = cfg.head_dim, kv_heads, cfg.context
        bits = cfg.kv_bits if kv_bits is None else kv_bits
        if bits is None:
            return [LayerCache(RotatingKVCache(*shape)) for _ in self.layers]
        return [LayerCache(QuantizedKVCache(*shape, bits)) for _ in self.layers]

    make_cache = make_rot_cache

    def make_frame_cache(self) -> list[LayerCache]:
        """State for one short sequence that is seen whole, beyond ``context`` too."""
        cfg = self.cfg
        kv_heads = cfg.num_heads // cfg.kv_repeat
        return [LayerCache(KVCache(cfg.head_dim, kv_heads)) for _ in self.layers]


class ProjectedTransformer(nn.Module):
    """A stack between projections, with one output per entry of ``output_dims``.

    Shape: ``[B, T, C]`` in and out, or ``[B, C, T]`` where ``cfg.conv_layout`` is set.
    """

    def __init__(
        self, cfg: TransformerConfig, input_dim: int, output_dims: Sequence[int]
    ):
        super().__init__()
        self.conv_layout = cfg.conv_layout
        self.transformer = Transformer(cfg)
        self.input_proj = _project(input_dim, cfg.d_model)
        self.output_projs = [_project(cfg.d_model, dim) for dim in output_dims]

    def __call__(
        self,
        x: mx.array,
        cache: Sequence[LayerCache] | None = None,
        cross_attention_src: mx.array | None = None,
        active: Sequence[bool] | None = None,
        compiled: Compiled | None = None,
    ) -> list[mx.array]:
        if self.conv_layout:
            x = x.swapaxes(1, 2)
        if self.input_proj is not None:
            x = self.input_proj(x)
        x = self.transformer(x, cache, cross_attention_src, active, compiled)
        outs = [x if proj is None else proj(x) for proj in self.output_projs]
        return [y.swapaxes(1, 2) for y in outs] if self.conv_layout else outs

    def make_rot_cache(self) -> list[LayerCache]:
        return self.transformer.make_rot_cache()

    make_cache = make_rot_cache


def _project(dim_in: int, dim_out: int) -> nn.Linear | None:
    return None if dim_in == dim_out else nn.Linear(dim_in, dim_out, bias=False)
