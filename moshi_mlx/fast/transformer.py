"""Stacks cut at their attentions, so that what runs between two of them is compiled.

Between the cuts there are only arrays: positions travel as rows ``[B * T, D]``, and
each piece ends where the keys and values of the next layer go into its cache.
"""

from collections.abc import Sequence
from functools import partial

import mlx.core as mx

from ..modules.attention import Attention, CrossAttention, LayerCache
from ..modules.mlp import MlpGating, MlpNoGating
from ..modules.transformer import Transformer, TransformerLayer
from . import ops
from .attention import FastAttention, FastCrossAttention
from .compiled import Compiled, Function
from .frame import FrameCache
from .heads import Table
from .linear import FastLinear, project, project_add, with_weights
from .twin import form


@form(MlpGating)
class FastMlpGating(MlpGating):
    def add(self, x: mx.array, residual: mx.array, b: int, t: int) -> mx.array:
        """``residual + self(x)``, of rows."""
        return project_add(self.linear_out, self.hidden(x, b, t), residual, b, t)

    def rows(self, x: mx.array, b: int, t: int) -> mx.array:
        return project(self.linear_out, self.hidden(x, b, t), b, t)

    def hidden(self, x: mx.array, b: int, t: int) -> mx.array:
        gate, x = mx.split(project(self.linear_in, x, b, t), 2, axis=-1)
        return ops.ACTIVATIONS[self.activation](gate) * x


@form(MlpNoGating)
class FastMlpNoGating(MlpNoGating):
    def add(self, x: mx.array, residual: mx.array, b: int, t: int) -> mx.array:
        """``residual + self(x)``, of rows."""
        return project_add(self.linear2, self.hidden(x, b, t), residual, b, t)

    def rows(self, x: mx.array, b: int, t: int) -> mx.array:
        return project(self.linear2, self.hidden(x, b, t), b, t)

    def hidden(self, x: mx.array, b: int, t: int) -> mx.array:
        return ops.gelu(project(self.linear1, x, b, t))


def _can_be_cut(layer: TransformerLayer) -> bool:
    """Whether attention and feed-forward are ours; only then is it known what they do.

    Linear layers and norms may be of any kind.
    """
    return (
        type(layer.self_attn) is Attention
        and type(layer.gating) in (MlpGating, MlpNoGating)
        and type(layer.get("cross_attention")) in (type(None), CrossAttention)
    )


@form(TransformerLayer, where=_can_be_cut)
class FastLayer(TransformerLayer):
    """A layer in two parts, before and after its self-attention."""

    self_attn: FastAttention
    cross_attention: FastCrossAttention
    gating: FastMlpGating | FastMlpNoGating

    def before(
        self, x: mx.array, b: int, t: int, table: Table, together: bool
    ) -> tuple[mx.array, ...]:
        """What self-attention is given: queries, keys and values."""
        return self.self_attn.split(self.norm1(x), b, t, table, together)

    def after(
        self, x: mx.array, y: mx.array, b: int, t: int, *condition: mx.array
    ) -> mx.array:
        """The layer's output from its input ``x`` and what self-attention found.

        ``condition`` is its keys and values, if the layer attends to one.
        """
        x = self._add_projected(x, y, self.self_attn, "1", b, t)
        if condition:
            y = self.cross_attention.attend(self.norm_cross(x), *condition)
            x = self._add_projected(x, y, self.cross_attention, "cross", b, t)
        y = self.norm2(x)
        if "layer_scale_2" in self:
            return x + self.layer_scale_2(self.gating.rows(y, b, t))
        return self.gating.add(y, x, b, t)

    def fold_scales(self) -> None:
        """Multiply the layer's scales into the matrices before them.

        This spares a kernel each, for a copy of those matrices. It is done in float32.
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
        self,
        x: mx.array,
        y: mx.array,
        attention: FastAttention | FastCrossAttention,
        which: str,
        b: int,
        t: int,
    ) -> mx.array:
        name = f"layer_scale_{which}"
        if name in self:
            return x + self[name](project(attention.out_proj, y, b, t))
        return project_add(attention.out_proj, y, x, b, t)


@form(Transformer)
class FastTransformer(Transformer):
    """``Transformer`` cut at its attentions."""

    def made_ready(self) -> None:
        cuts = [layer for layer in self.layers if isinstance(layer, FastLayer)]
        self._table_of = cuts[0].self_attn.heads if cuts else None
        self.compile_up_to(0)

    def compile_up_to(self, positions: int) -> None:
        """Compile calls of at most so many positions, from the second one on."""
        self._most = positions
        self._compiled = Compiled()

    def fold_scales(self) -> None:
        """Fold the scales of all layers: see ``FastLayer``."""
        for layer in self.layers:
            if isinstance(layer, FastLayer):
                layer.fold_scales()

    def __call__(
        self,
        x: mx.array,
        cache: Sequence[LayerCache] | None = None,
        cross_attention_src: mx.array | None = None,
        active: Sequence[bool] | None = None,
    ) -> mx.array:
        """As ``Transformer``; the caches may hold a ``FrameCache`` each."""
        self.check_condition(cross_attention_src)
        cache = self.make_rot_cache() if cache is None else cache
        plan = self.plan(x, cache, active)
        x = self.with_positions(x, plan)
        b, t, d = x.shape
        table = None
        if self._table_of is not None:
            table = self._table_of.table(plan.start, t, x.dtype)
        together = isinstance(cache[0].self_attn, FrameCache)
        self._compiled.begin(live=t <= self._most)
        x = x.reshape(b * t, d)
        y: mx.array | None = None
        condition: tuple[mx.array, ...] = ()
        last: FastLayer | None = None
        for i, layer in enumerate([*self.layers, None]):
            cut = layer if isinstance(layer, FastLayer) else None
            piece: Function = partial(_between_attentions, last, cut, b, t, together)
            x, *qkv = self._compiled((i, b, t), piece)(x, table, y, *condition)
            last, y, condition = cut, None, ()
            if cut is not None:
                past = cache[i].self_attn
                y = cut.self_attn.attend(*qkv, cache=past, plan=plan)
                if cross_attention_src is not None:
                    condition = cut.cross_attention.remember(
                        cross_attention_src, cache[i], b, x.dtype
                    )
            elif layer is not None:
                x = x.reshape(b, t, d)
                x = layer(x, cache[i], plan, cross_attention_src).reshape(b * t, d)
        return x.reshape(b, t, d)


def _between_attentions(
    last: FastLayer | None,
    following: FastLayer | None,
    b: int,
    t: int,
    together: bool,
    x: mx.array,
    table: Table,
    y: mx.array | None,
    *condition: mx.array,
) -> tuple[mx.array, ...]:
    """From one layer's attention to the next one's: arrays in, arrays out, no state.

    Returns: the next layer's input, then its queries, keys and values; after the last
        layer its output alone.
    """
    if last is not None and y is not None:
        x = last.after(x, y, b, t, *condition)
    if following is None:
        return (x,)
    return x, *following.before(x, b, t, table, together)
