"""Stacks that are cut at their attentions; the pieces in between are compiled.

The pieces work on plain arrays: positions travel as rows ``[B * T, D]``, and each piece
ends when the keys and values of the next layer go into its cache.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..modules.attention import Attention, Condition, CrossAttention, LayerCache
from ..modules.gated import CLOSED, ConditionGate, Seen
from ..modules.kv_cache import Plan
from ..modules.lora import choices
from ..modules.mlp import MlpGating, MlpNoGating
from ..modules.quantized_kv import QuantizedKVCache
from ..modules.transformer import GatedLayer, Transformer, TransformerLayer
from . import add_norm, ops
from .attention import FastAttention, FastCrossAttention
from .compiled import Compiled, Function
from .frame import FrameCache
from .heads import Table
from .linear import FastLinear, adds, project, project_add, with_weights
from .twin import form

FEW = 8  # positions that MLX's attention kernel for live frames takes on a GPU


@form(MlpGating)
class FastMlpGating(MlpGating):
    @property
    def last(self) -> nn.Module:
        """The layer that ``hidden`` goes through."""
        return self.linear_out

    def hidden(self, x: mx.array, b: int, t: int) -> mx.array:
        gate, x = mx.split(project(self.linear_in, x, b, t), 2, axis=-1)
        return ops.ACTIVATIONS[self.activation](gate) * x


@form(MlpNoGating)
class FastMlpNoGating(MlpNoGating):
    @property
    def last(self) -> nn.Module:
        """The layer that ``hidden`` goes through."""
        return self.linear2

    def hidden(self, x: mx.array, b: int, t: int) -> mx.array:
        return ops.gelu(project(self.linear1, x, b, t))


@form(ConditionGate)
class FastConditionGate(ConditionGate):
    def rows(self, x: mx.array, b: int, t: int) -> mx.array:
        hidden = mx.maximum(project(self.linear1, x, b, t), 0)
        return mx.sigmoid(project(self.linear2, hidden, b, t) + CLOSED)


def _can_be_cut(layer: TransformerLayer) -> bool:
    """Whether attention and feed-forward are ours, so that their work is known.

    Linear layers and norms may be of any kind.
    """
    return (
        type(layer.self_attn) is Attention
        and type(layer.gating) in (MlpGating, MlpNoGating)
        and type(layer.get("cross_attention")) in (type(None), CrossAttention)
        and type(layer.get("cross_gate")) in (type(None), ConditionGate)
    )


@form(TransformerLayer, where=_can_be_cut)
class FastLayer(TransformerLayer):
    """A layer in two parts, before and after its self-attention."""

    self_attn: FastAttention
    gating: FastMlpGating | FastMlpNoGating

    def before(
        self, normed: mx.array, b: int, t: int, table: Table, together: bool
    ) -> tuple[mx.array, ...]:
        """The inputs of self-attention (queries, keys and values) for the layer's input
        after ``norm1``."""
        return self.self_attn.split(normed, b, t, table, together)

    def after(
        self,
        x: mx.array,
        y: mx.array,
        b: int,
        t: int,
        norm: nn.Module | None,
        attention: FastCrossAttention | None,
        *condition: mx.array,
    ) -> tuple[mx.array, mx.array | None, mx.array | None]:
        """The layer's output, from its input ``x`` and the result of self-attention.

        ``condition`` holds the keys and values that ``attention`` sees, if the layer
        attends to a condition.

        Returns: rows ``[B * T, D]``, the next layer's ``norm`` of them, and how much a
            gate let through, ``[B, T]``.
        """
        gate: mx.array | None = None
        out_proj = self.self_attn.out_proj
        if attention is None:
            x, y = self._add(x, y, out_proj, "1", self.norm2, b, t)
        else:
            x, y = self._add(x, y, out_proj, "1", self.norm_cross, b, t)
            x, gate = self.add_seen(x, attention.attend(y, *condition), b, t, attention)
            y = self.norm2(x)
        hidden = self.gating.hidden(y, b, t)
        if norm is None:
            x = self._add_projected(x, hidden, self.gating.last, "2", b, t)
            return x, None, gate
        return *self._add(x, hidden, self.gating.last, "2", norm, b, t), gate

    def add_seen(
        self,
        x: mx.array,
        y: mx.array,
        b: int,
        t: int,
        attention: FastCrossAttention,
    ) -> tuple[mx.array, mx.array | None]:
        """``x`` plus the result of attention to the condition, and how much a gate let
        through."""
        return self._add_projected(x, y, attention.out_proj, "cross", b, t), None

    def fold_scales(self) -> None:
        """Multiply the layer's scales into the matrices before them.

        This saves a kernel per scale, and costs a copy of those matrices. It is done in
        float32.
        """
        parts = [("1", self.self_attn, "out_proj"), ("2", self.gating, "linear_out")]
        if isinstance(self.gating, FastMlpNoGating):
            parts[1] = ("2", self.gating, "linear2")
        for which, owner, name in parts:
            scale, last = self.get(f"layer_scale_{which}"), owner[name]
            if scale is None or type(last) is not FastLinear or "bias" in last:
                continue
            floats = last["weight"].astype(mx.float32) * scale["scale"][:, None]
            weight = floats.astype(last["weight"].dtype)
            owner[name] = with_weights(last, {"weight": weight})
            del self[f"layer_scale_{which}"]

    def _add_projected(
        self, x: mx.array, y: mx.array, layer: nn.Module, which: str, b: int, t: int
    ) -> mx.array:
        name = f"layer_scale_{which}"
        if name in self:
            return x + self[name](project(layer, y, b, t))
        return project_add(layer, y, x, b, t)

    def _add(
        self,
        x: mx.array,
        y: mx.array,
        layer: nn.Module,
        which: str,
        norm: nn.Module,
        b: int,
        t: int,
    ) -> tuple[mx.array, mx.array]:
        """``x`` plus the layer's output for ``y``, and its ``norm``."""
        scaled = f"layer_scale_{which}" in self
        if add_norm.is_on() and not scaled and not adds(layer, y):
            return add_norm.add_norm(project(layer, y, b, t), x, norm)
        x = self._add_projected(x, y, layer, which, b, t)
        return x, norm(x)


@form(GatedLayer, where=_can_be_cut)
class FastGatedLayer(FastLayer, GatedLayer):
    """Like ``FastLayer``, with the stack's attention to the condition."""

    cross_gate: FastConditionGate

    def add_seen(
        self,
        x: mx.array,
        y: mx.array,
        b: int,
        t: int,
        attention: FastCrossAttention,
    ) -> tuple[mx.array, mx.array | None]:
        y = project(attention.out_proj, y, b, t)
        gate = self.cross_gate.rows(y, b, t)
        y = self._scaled("cross", gate * y)
        return x + y, gate.mean(axis=-1).reshape(b, t)


@form(Transformer)
class FastTransformer(Transformer):
    """``Transformer`` cut at its attentions."""

    def made_ready(self) -> None:
        cuts = [layer for layer in self.layers if isinstance(layer, FastLayer)]
        self._table_of = cuts[0].self_attn.heads if cuts else None
        self.compile_up_to(0)

    def compile_up_to(self, positions: int) -> None:
        """Compile calls of up to this many positions, from the second one on."""
        self._most = positions
        self._compiled = Compiled(choices(self))

    def fold_scales(self) -> None:
        """Fold the scales of all layers: see ``FastLayer``."""
        for layer in self.layers:
            if isinstance(layer, FastLayer):
                layer.fold_scales()

    def __call__(
        self,
        x: mx.array,
        cache: Sequence[LayerCache] | None = None,
        cross_attention_src: Condition | None = None,
        active: Sequence[bool] | None = None,
    ) -> mx.array:
        """Like ``Transformer``; each cache may hold a ``FrameCache``."""
        shared = self.get("cross_attention")
        if not isinstance(shared, FastCrossAttention | None):
            return super().__call__(x, cache, cross_attention_src, active)
        self.check_condition(cross_attention_src)
        cache = self.make_rot_cache() if cache is None else cache
        plan = self._with_whole_mask(self.plan(x, cache, active), cache)
        x = self.with_positions(x, plan)
        b, t, d = x.shape
        table = None
        if self._table_of is not None:
            table = self._table_of.table(plan.start, t, x.dtype)
        together = isinstance(cache[0].self_attn, FrameCache)
        self._compiled.begin(live=t <= self._most)
        condition: Condition | Seen | None = cross_attention_src
        if self.cfg.cross_gated:
            condition = self.seen(cross_attention_src, cache, x)
        x = x.reshape(b * t, d)
        y: mx.array | None = None
        seen: Seen | None = None
        last: FastLayer | None = None
        for i, layer in enumerate([*self.layers, None]):
            cut = layer if isinstance(layer, FastLayer) else None
            attention: Any = None if seen is None else seen.attention
            piece: Function = partial(
                _between_attentions, last, cut, attention, b, t, together
            )
            given = () if seen is None else seen.arrays
            piece = self._compiled((i, b, t, len(given)), piece)
            x, gate, *qkv = piece(x, table, y, *given)
            if last is not None and gate is not None:
                cache[i - 1].gate = gate
            last, y, seen = cut, None, None
            if cut is not None:
                past = cache[i].self_attn
                y = cut.self_attn.attend(*qkv, cache=past, plan=plan)
                seen = _seen(cut, condition, cache[i], b, x.dtype)
            elif layer is not None:
                x = x.reshape(b, t, d)
                x = layer(x, cache[i], plan, condition).reshape(b * t, d)
        return x.reshape(b, t, d)

    def _with_whole_mask(self, plan: Plan, cache: Sequence[LayerCache]) -> Plan:
        """``plan``, with its mask in the form of MLX's kernel for few positions.

        On a GPU the kernel reads a mask for all rows as it is. Masks that differ
        between rows it copies in every layer, unless they have all heads.
        """
        mask, packed = plan.mask, isinstance(cache[0].self_attn, QuantizedKVCache)
        if mask is None or mask.shape[0] == 1 or packed or not ops.on_gpu():
            return plan
        if plan.t > FEW or self._table_of is None:
            return plan
        shape = (plan.b, self._table_of.num_heads, plan.t, plan.live)
        return replace(plan, mask=mx.contiguous(mx.broadcast_to(mask, shape)))


def _seen(
    layer: FastLayer,
    condition: Condition | Seen | None,
    cache: LayerCache,
    b: int,
    dtype: mx.Dtype,
) -> Seen | None:
    """The condition as a layer sees it."""
    if condition is None or isinstance(condition, Seen):
        return condition
    attention = layer.cross_attention
    return Seen(attention, *attention.remember(condition, cache, b, dtype))


def _between_attentions(
    last: FastLayer | None,
    following: FastLayer | None,
    attention: FastCrossAttention | None,
    b: int,
    t: int,
    together: bool,
    x: mx.array,
    table: Table,
    y: mx.array | None,
    *condition: mx.array,
) -> tuple[mx.array | None, ...]:
    """From one layer's attention to the next one's: arrays in, arrays out, no state.

    Returns: the next layer's input, how much the last one's gate let through, and the
        next one's queries, keys and values.
    """
    gate: mx.array | None = None
    norm = None if following is None else following.norm1
    if last is not None and y is not None:
        x, normed, gate = last.after(x, y, b, t, norm, attention, *condition)
    else:
        normed = None if norm is None else norm(x)
    if following is None or normed is None:
        return x, gate
    return x, gate, *following.before(normed, b, t, table, together)
