"""Products of few rows, by the forms that CPU runs best: all the same product."""

import mlx.core as mx
import mlx.nn as nn
import pytest

from moshi_mlx.modules import ops
from tests.tiny import assert_close

# Small enough for blocks of 128 and 16 rows; too large for any; no whole blocks.
SHAPES = [(1536, 512), (1024, 8192), (64, 40_000), (100, 30)]


@pytest.fixture(params=[True, False], ids=["small kernels", "none"], autouse=True)
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With AVX-512 and without: the forms differ, all must be right everywhere."""
    monkeypatch.setattr(ops, "small_kernels", lambda: request.param)
    ops._block_height.cache_clear()
    return request.param


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("bias", [False, True])
def test_blocks_of_a_weight_give_the_whole_product(shape, rows, bias):
    x, weight = mx.random.normal((1, rows, shape[1])), mx.random.normal(shape)
    b = mx.random.normal(shape[:1]) if bias else None
    expected = x @ weight.T if b is None else x @ weight.T + b
    assert_close(ops.linear(x, weight, b), expected)
    assert_close(ops.linear(x, weight, b, ops.pack(weight)), expected)


def test_only_what_is_worth_it_is_packed(processor: bool):
    assert ops.pack(mx.zeros((100, 30))) is None  # no whole blocks
    assert ops.pack(mx.zeros((128, 30), mx.bfloat16)) is None
    packed = ops.pack(mx.zeros((128, 30)))
    expected = (2, 30, 64) if processor else (1, 30, 128)
    assert packed is not None and packed.shape == expected


def test_a_pack_serves_the_weight_it_was_made_of():
    block = nn.Sequential(nn.Linear(512, 640, bias=False))
    layer, x = block.layers[0], mx.random.normal((2, 512))
    ops.keep_packed(block)
    assert_close(ops.project(x, layer), x @ layer.weight.T)
    layer.weight = layer.weight + 1  # the pack is of the old weight now
    assert_close(ops.project(x, layer), x @ layer.weight.T)
    assert list(layer.parameters()) == ["weight"]
