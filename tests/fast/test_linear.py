"""Linear layers made ready compute what they compute as they are."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from moshi_mlx import fast
from moshi_mlx.fast import ops
from moshi_mlx.fast.linear import project, project_add
from tests.tiny import assert_close


@pytest.fixture(params=["cpu", "gpu"], autouse=True)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """The arithmetic of each kind of device, both run on CPU."""
    if request.param == "gpu":
        monkeypatch.setattr(ops, "on_gpu", lambda: True)


def wanted(x: np.ndarray) -> mx.array:
    return mx.array(x.astype(np.float32))


def added(layer: nn.Module, x: mx.array, residual: mx.array) -> mx.array:
    return project_add(fast.ready(layer), x, residual, 1, len(x))


@pytest.mark.parametrize("shape", [(5, 8), (600, 700)], ids=["small", "large"])
@pytest.mark.parametrize("rows", [1, 3, 300])
def test_project(shape: tuple[int, int], rows: int):
    layer = nn.Linear(shape[1], shape[0], bias=False)
    x, residual = mx.random.normal((rows, shape[1])), mx.random.normal((rows, shape[0]))
    y = np.array(x, dtype=np.float64) @ np.array(layer.weight, dtype=np.float64).T
    assert_close(fast.ready(layer)(x), wanted(y))
    assert_close(added(layer, x, residual), wanted(y + np.array(residual)))


def test_project_through_biases_and_quantised_layers():
    x, residual = mx.random.normal((3, 64)), mx.random.normal((3, 7))
    layer = nn.Linear(64, 7)
    for part in (layer, layer.to_quantized(32, 4)):
        assert mx.array_equal(fast.ready(part)(x), part(x))
        assert_close(added(part, x, residual), residual + part(x))


@pytest.mark.parametrize("mode, bits, group", [("affine", 4, 32), ("mxfp4", 4, 32)])
@pytest.mark.parametrize("shape", [(7, 64), (2048, 512)], ids=["small", "large"])
@pytest.mark.parametrize("rows", [3, 6])
def test_project_by_quantised_weights(
    rows: int, shape: tuple[int, int], mode: str, bits: int, group: int
):
    layer = nn.Linear(shape[1], shape[0], bias=False).to_quantized(group, bits, mode)
    x, residual = mx.random.normal((rows, shape[1])), mx.random.normal((rows, shape[0]))
    names = set(layer.parameters())
    for _ in range(2):
        assert_close(fast.ready(layer)(x), layer(x), 1e-5)
        assert_close(added(layer, x, residual), residual + layer(x), 1e-5)
        layer["weight"] = layer["weight"][::-1]  # another one, from here on
    half = x.astype(mx.bfloat16)
    assert fast.ready(layer)(half).dtype == layer(half).dtype
    assert set(layer.parameters()) == names


def test_project_follows_a_replaced_weight():
    layer, x = nn.Linear(8, 5, bias=False), mx.ones((2, 8))
    fast.ready(layer)(x)
    layer.weight = mx.full((5, 8), 2.0)
    assert_close(fast.ready(layer)(x), mx.full((2, 5), 16.0))


def test_a_layer_of_the_user_is_called_with_positions_apart():
    class Mine(nn.Module):
        def __call__(self, x: mx.array) -> mx.array:
            assert x.shape == (2, 3, 4)
            return x.cumsum(axis=1)  # over the positions of a row

    x = mx.random.normal((6, 4))
    expected = x.reshape(2, 3, 4).cumsum(axis=1).reshape(6, 4)
    assert fast.ready(mine := Mine()) is mine
    assert mx.array_equal(project(mine, x, 2, 3), expected)
    assert mx.array_equal(project_add(mine, x, x, 2, 3), x + expected)
