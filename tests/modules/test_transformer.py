"""Stacks: one path for whole sequences and streams, exact to the NumPy oracle."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from moshi_mlx import fast
from moshi_mlx.modules.transformer import (
    ACTIVATIONS,
    POSITIONS,
    MlpGating,
    ProjectedTransformer,
    Transformer,
    sin_embedding,
)
from tests import oracles
from tests.stacks import config, randomised, stack, wave
from tests.tiny import assert_close, number, parameters

forms = pytest.mark.parametrize(
    "form", [lambda stack: stack, fast.ready], ids=["reference", "fast"]
)


def as_pytorch(module: nn.Module) -> dict[str, np.ndarray]:
    """The stack's weights under PyTorch's names, as the oracle wants them."""
    weights = {}
    for name, value in parameters(module).items():
        name = name.replace("gating.linear1", "linear1")
        name = name.replace("gating.linear2", "linear2")
        name = name.replace("in_proj.weight", "in_proj_weight")
        array = np.array(value, dtype=np.float64)
        weights[f"stack.{name}"] = array
        if "norm" in name and name.endswith("weight"):
            weights[f"stack.{name.removesuffix('weight')}alpha"] = array
    return weights


def oracle(module: Transformer) -> oracles.Stack:
    cfg = module.cfg
    gating = {True: "silu", False: "none"}.get(cfg.gating, cfg.gating)  # type: ignore
    return oracles.Stack(
        as_pytorch(module),
        "stack",
        cfg.num_layers,
        cfg.num_heads,
        cfg.kv_repeat,
        "rms_norm_f32" if cfg.norm == "rms_norm" else cfg.norm,  # 0.3.0's epsilon
        str(gating),
        cfg.positional_embedding,
        cfg.max_period,
        cfg.context,
    )


def check(module: Transformer, t: int = 20, cross: mx.array | None = None) -> None:
    x = wave(2, t)
    rows = [
        oracle(module)(np.array(row), None if cross is None else np.array(cross[b]))
        for b, row in enumerate(x)
    ]
    expected = mx.array(np.stack(rows).astype(np.float32))
    for network in (module, fast.ready(module)):
        assert_close(network(x, cross_attention_src=cross), expected)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("kv_repeat", [1, 2])
def test_positions_and_grouped_heads(positions: str, kv_repeat: int):
    check(stack(num_heads=4, kv_repeat=kv_repeat, positional_embedding=positions))


@pytest.mark.parametrize("norm", oracles.EPS)
@pytest.mark.parametrize("layer_scale", [None, 0.1])
def test_norms_and_layer_scales(norm: str, layer_scale: float | None):
    check(stack(norm=norm, layer_scale=layer_scale))


@pytest.mark.parametrize("gating", [True, False, "none", *oracles.ACTIVATIONS])
def test_gatings(gating: bool | str):
    check(stack(gating=gating, num_layers=1))


@pytest.mark.parametrize("layer_scale", [None, 0.1])
def test_cross_attention(layer_scale: float | None):
    module = stack(cross_attention=True, layer_scale=layer_scale)
    check(module, 9, wave(2, 5, seed=1))


@pytest.mark.parametrize("max_period", [10, 100_000])
def test_max_period(max_period: int):
    check(stack(max_period=max_period, context=15))
    check(stack(max_period=max_period, positional_embedding="sin_rope"))


def test_the_epsilon_of_a_norm_may_be_given():
    x = mx.full((1, 1, 16), 1e-3)
    outputs = [stack(norm_eps=eps, num_layers=1)(x) for eps in (1e-8, 1e-5)]
    assert number(mx.abs(outputs[0] - outputs[1]).max()) > 1e-2


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kv_repeat": 2, "positional_embedding": "rope_concat"},
        {"positional_embedding": "sin", "layer_scale": 0.1},
        {"cross_attention": True},
        {"context": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("lengths", [[1] * 22, [2] * 11, [5, 5, 5, 7], [1, 2, 5, 14]])
@forms
def test_steps_of_any_length_give_what_the_whole_sequence_gives(form, changes, lengths):
    module = form(stack(**changes))
    cross = wave(2, 5, seed=1) if changes.get("cross_attention") else None
    x = wave(2, 22)
    cache = module.make_rot_cache()
    parts, start = [], 0
    for t in lengths:
        parts.append(module(x[:, start : start + t], cache, cross))
        start += t
    assert_close(mx.concatenate(parts, axis=1), module(x, cross_attention_src=cross))
    assert cache[0].self_attn.offset == 22


@pytest.mark.parametrize("positions", POSITIONS)
@forms
def test_rows_of_a_batch_pause_and_reset_on_their_own(form, positions: str):
    """Each row must give what it gives alone, whatever its neighbours do."""
    module = form(stack(positional_embedding=positions))
    b, rng = 3, np.random.default_rng(0)
    batch = module.make_rot_cache()
    single = [module.make_rot_cache() for _ in range(b)]
    for turn in range(30):
        x = wave(b, 1 + turn % 3, seed=turn)
        active = [bool(on) for on in rng.random(b) < 0.7]
        found = module(x, batch, active=active)
        for row in range(b):
            if active[row]:
                expected = module(x[row : row + 1], single[row])
                assert_close(found[row : row + 1], expected)
        if turn % 7 == 6:
            row = turn % b
            for layer in batch:
                layer.reset([row])
            single[row] = module.make_rot_cache()


def test_two_streams_on_one_stack_do_not_touch():
    module = stack()
    a, b = wave(1, 16), wave(1, 16, seed=1)
    caches = module.make_rot_cache(), module.make_rot_cache()
    found = [
        [
            module(x[:, t : t + 1], cache)
            for x, cache in zip((a, b), caches, strict=True)
        ]
        for t in range(16)
    ]
    for x, parts in zip((a, b), zip(*found, strict=True), strict=True):
        assert_close(mx.concatenate(list(parts), axis=1), module(x))


def test_a_reset_cache_is_a_new_one():
    module = stack(cross_attention=True)
    x, cross = wave(1, 9), wave(1, 3, seed=1)
    cache = module.make_cache()
    first = module(x, cache, cross)
    for layer in cache:
        layer.reset()
    assert mx.array_equal(module(x, cache, cross), first)


def test_a_new_condition_replaces_the_old_one_s_keys():
    module = stack(cross_attention=True, positional_embedding="none", context=1)
    x, cache = wave(1, 1), module.make_cache()
    for seed in (1, 2):
        cross = wave(1, 3, seed=seed)
        expected = module(x, cross_attention_src=cross)
        assert mx.array_equal(module(x, cache, cross), expected)


def test_one_row_of_condition_serves_a_batch():
    module = stack(cross_attention=True)
    x, cross = wave(3, 5), wave(1, 6, seed=1)
    expected = module(x, cross_attention_src=mx.repeat(cross, 3, axis=0))
    assert mx.array_equal(module(x, cross_attention_src=cross), expected)


def test_bytes_are_flat_over_three_windows():
    module = stack(context=50)
    cache = module.make_rot_cache()
    held = []
    for _ in range(4):
        for t in range(50):
            mx.eval(module(wave(1, 1, seed=t), cache))
        held.append(sum(layer.self_attn.nbytes for layer in cache))
    assert set(held) == {2 * 2 * 50 * 16 * 4}  # layers, k and v, positions, width


def test_a_frame_cache_sees_past_the_context():
    module = stack(context=2)
    x = wave(1, 8)
    cache = module.make_frame_cache()
    parts = [module(x[:, t : t + 1], cache) for t in range(8)]
    wide = stack(context=8)
    assert_close(mx.concatenate(parts, axis=1), wide(x))


def test_longer_input_never_changes_earlier_output():
    module = stack()
    x = wave(1, 12)
    changed = mx.concatenate([x[:, :8], wave(1, 4, seed=9)], axis=1)
    assert mx.array_equal(module(x)[:, :8], module(changed)[:, :8])


def test_an_hour_in_attention_still_depends_on_distances_alone():
    """As far as float32 holds an angle, as in PyTorch."""
    module = stack(context=5)
    x = wave(1, 16)
    start = module(x)
    cache = module.make_rot_cache()
    module(x[:, :1], cache)
    for layer in cache:
        layer.self_attn.offsets = [45_000]  # type: ignore[union-attr]
    reached = 2 * (5 - 1)  # by two layers' windows: what is later saw x alone
    assert_close(module(x, cache)[:, reached:], start[:, reached:], 5e-3)


@pytest.mark.parametrize("conv_layout", [False, True])
def test_projected_stacks_swap_axes_only_where_the_config_says_so(conv_layout: bool):
    cfg = config(conv_layout=conv_layout)
    module = ProjectedTransformer(cfg, input_dim=10, output_dims=[16, 3])
    randomised(module)
    x = wave(2, 7, 10)
    inner = module.transformer(x @ module.input_proj["weight"].T)  # type: ignore
    last = module.output_projs[1]
    assert last is not None and module.output_projs[0] is None
    expected = [inner, inner @ last["weight"].T]
    found = module(x.swapaxes(1, 2) if conv_layout else x, module.make_cache())
    for y, z in zip(found, expected, strict=True):
        assert_close(y.swapaxes(1, 2) if conv_layout else y, z)


def test_the_gated_width_is_0_3_0_s_unless_it_is_given():
    def width(**changes: Any) -> int:
        return MlpGating(config(**changes)).linear_out["weight"].shape[1]

    assert width(d_model=64, dim_feedforward=256) == 176  # 11/4 of the width
    assert width(d_model=64, dim_feedforward=264) == 176  # 2/3 of the inner width
    assert width(d_model=64, dim_feedforward=100) == 66
    assert width(d_model=64, dim_feedforward=256, gating_dim=168) == 168


def test_sinusoids_are_cosines_then_sines():
    found = sin_embedding(mx.arange(3, 8), 6, 100.0)
    expected = oracles.sinusoids(np.arange(3, 8), 6, 100.0).astype(np.float32)
    assert_close(found, mx.array(expected))


def test_every_activation_of_the_package_is_tested():
    assert set(ACTIVATIONS) == set(oracles.ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_far_from_zero(name: str):
    x = mx.linspace(-30, 30, 601)
    expected = oracles.ACTIVATIONS[name](np.array(x, dtype=np.float64))
    assert_close(ACTIVATIONS[name](x), mx.array(expected.astype(np.float32)), 1e-6)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"num_heads": 3}, "3 heads .* do not divide a width of 16"),
        ({"kv_repeat": 4}, r"2 heads \(kv_repeat 4\) do not divide"),
        ({"positional_embedding": "alibi"}, "'alibi' is unknown: use one of none, sin"),
        ({"causal": False}, "causal=False is not supported"),
        ({"norm_first": False}, "norm_first=False is not supported"),
        ({"use_conv_block": True}, "use_conv_block=True is not supported"),
        ({"gating": "swish"}, "gating 'swish' is unknown: use one of silu"),
        ({"norm": "batch_norm"}, "norm 'batch_norm' is unknown: use one of layer_norm"),
        ({"cross_attention": True, "kv_repeat": 2}, "kv_repeat=2: only 1 is defined"),
    ],
)
def test_what_cannot_be_computed_is_refused_in_one_sentence(changes, words: str):
    with pytest.raises(ValueError, match=words):
        Transformer(config(**changes))


def test_a_condition_must_be_given_where_and_only_where_one_is_used():
    x, cross = wave(1, 1), wave(1, 2)
    with pytest.raises(ValueError, match="does not take a cross_attention_src"):
        stack()(x, cross_attention_src=cross)
    with pytest.raises(ValueError, match="wants a cross_attention_src"):
        stack(cross_attention=True)(x)


def test_a_layer_is_arrays_in_and_arrays_out():
    module, x = stack(num_layers=2), wave(2, 9)
    plan, y = module.plan(x, None, None), x
    for layer in module.layers:
        y = layer(y, None, plan)
    assert y.shape == x.shape
    assert mx.array_equal(y, module(x))
