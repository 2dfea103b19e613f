"""Attention between cuts: what comes before it, itself, and what comes after."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from ..modules.attention import Attention, CrossAttention, SelfCache
from ..modules.kv_cache import Plan
from ..modules.quantized_kv import QuantizedKVCache
from .frame import FrameCache
from .heads import Heads, Table
from .linear import FastLinear, FastQuantizedLinear, project
from .twin import form


@form(Attention)
class FastAttention(Attention):
    """``Attention`` over rows ``[B * T, D]``, in two parts.

    The input projection belongs to what comes before attention, the output projection
    to the sum that comes after it.
    """

    def made_ready(self) -> None:
        self.heads = Heads.of(self)

    def split(
        self, x: mx.array, b: int, t: int, table: Table, together: bool
    ) -> tuple[mx.array, ...]:
        """Queries, then keys and values, maybe ``together``: see ``Heads.split``."""
        qkv = project(self.in_proj, x, b, t)
        return self.heads.split(qkv, b, t, table, together)

    def attend(
        self, q: mx.array, *kv: mx.array, cache: SelfCache | FrameCache, plan: Plan
    ) -> mx.array:
        """Everything but the projections, from the result of ``split``.

        Returns: rows ``[B * T, D]``.
        """
        update: Callable[..., Any] = cache.update
        k, v = update(*kv, plan)
        if isinstance(cache, QuantizedKVCache):
            return self.heads.attend_packed(q, k, v, plan.mask)
        return self.heads.attend(q, k, v, plan.mask)


@form(CrossAttention)
class FastCrossAttention(CrossAttention):
    """``CrossAttention`` that computes only the needed outputs of ``in_proj``."""

    def project(self, x: mx.array, outputs: slice) -> mx.array:
        layer = self.in_proj
        if isinstance(layer, FastQuantizedLinear):
            biases = layer.get("biases")
            y = mx.quantized_matmul(
                x,
                layer["weight"][outputs],
                scales=layer["scales"][outputs],
                biases=None if biases is None else biases[outputs],
                transpose=True,
                group_size=layer.group_size,
                bits=layer.bits,
                mode=layer.mode,
            )
        elif isinstance(layer, FastLinear):
            y = x @ layer["weight"][outputs].T
        else:
            return super().project(x, outputs)
        return y + layer["bias"][outputs] if "bias" in layer else y

    def attend(
        self, x: mx.array, k: mx.array, v: mx.array, mask: mx.array | None = None
    ) -> mx.array:
        """Attention of rows ``[B * T, D]`` to ``remember``'s result; not projected."""
        d, (b, _, _, _) = x.shape[-1], k.shape
        if not isinstance(self.in_proj, FastLinear | FastQuantizedLinear):
            x = x.reshape(b, -1, d)
        q = self.split_heads(self.project(x, slice(0, d)), b)
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=self.scale, mask=mask)
        return y.swapaxes(1, 2).reshape(-1, d)
