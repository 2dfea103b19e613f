"""Attention to a stream and to a condition, in the reference and in its fast form."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from moshi_mlx import fast
from moshi_mlx.modules.attention import Attention, CrossAttention, LayerCache
from moshi_mlx.modules.kv_cache import RotatingKVCache
from moshi_mlx.modules.transformer import TransformerConfig
from tests import oracles
from tests.tiny import assert_close

D = 8  # of a head
forms = pytest.mark.parametrize("form", [lambda layer: layer, fast.ready])


def cross_config(**changes: Any) -> TransformerConfig:
    return TransformerConfig(
        d_model=32,
        num_heads=4,
        num_layers=1,
        causal=True,
        norm_first=True,
        bias_ff=False,
        layer_scale=None,
        use_conv_block=False,
        conv_kernel_size=3,
        use_conv_bias=True,
        gating=True,
        norm="rms_norm",
        context=8,
        max_period=10_000,
        max_seq_len=8,
        kv_repeat=1,
        dim_feedforward=64,
        conv_layout=False,
        **{
            "bias_attn": False,
            "positional_embedding": "none",
            "cross_attention": True,
            **changes,
        },
    )


def cross_cache() -> LayerCache:
    return LayerCache(RotatingKVCache(D, 4, 8))


@forms
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("bits", [None, 4, 8])
def test_cross_attention_projects_by_thirds_of_one_matrix(
    bias: bool, bits: int | None, form
):
    layer = CrossAttention(cross_config(bias_attn=bias))
    layer.out_proj = nn.Linear(32, 32, bias=False)
    layer.out_proj.weight = mx.eye(32)
    x, condition = mx.random.normal((2, 3, 32)), mx.random.normal((2, 5, 32))
    if bits:
        layer.in_proj = layer.in_proj.to_quantized(32, bits)  # type: ignore
    whole = layer.in_proj(mx.concatenate([x, condition], axis=1))
    q = np.array(whole[:, :3, :32]).reshape(2, 3, 4, D)
    k, v = (
        np.array(whole[:, 3:, part * 32 : part * 32 + 32]).reshape(2, 5, 4, D)
        for part in (1, 2)
    )
    rows = [
        oracles.attend(q[b, t, h], k[b, :, h], v[b, :, h])
        for b in range(2)
        for t in range(3)
        for h in range(4)
    ]
    expected = mx.array(np.stack(rows).reshape(2, 3, 32).astype(np.float32))
    assert_close(form(layer)(x, condition, cross_cache()), expected)
    assert_close(form(layer)(x, condition, None), expected)


def test_a_condition_s_keys_are_made_once_and_forgotten_on_reset():
    layer, cache = CrossAttention(cross_config()), cross_cache()
    condition = mx.random.normal((2, 5, 32))
    first = layer.remember(condition, cache, 2, mx.float32)
    made = cache.cross_attn
    assert made is not None and made[0] is condition
    layer.remember(condition, cache, 2, mx.float32)
    assert cache.cross_attn is made
    cache.reset()
    assert cache.cross_attn is None
    again = layer.remember(condition, cache, 2, mx.float32)
    assert all(mx.array_equal(a, b) for a, b in zip(again, first, strict=True))


def test_attention_is_called_with_arrays_and_gives_arrays():
    cfg = cross_config(cross_attention=False, positional_embedding="rope")
    layer, x = Attention(cfg), mx.random.normal((2, 5, 32))
    cache = RotatingKVCache(D, 4, 8)
    whole = layer(x, None, RotatingKVCache(D, 4, 8).plan(2, 5))
    parts = [layer(x[:, t : t + 1], cache, cache.plan(2, 1)) for t in range(5)]
    assert whole.shape == (2, 5, 32)
    assert_close(mx.concatenate(parts, axis=1), whole)
