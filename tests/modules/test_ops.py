"""The CPU's forms and the GPU's compute the same as NumPy."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from moshi_mlx.modules import ops
from tests import oracles
from tests.tiny import assert_close


@pytest.fixture(params=["cpu", "gpu"], autouse=True)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """The arithmetic of each kind of device, both run on CPU and uncompiled."""
    mx.disable_compile()
    if request.param == "gpu":
        monkeypatch.setattr(ops, "on_gpu", lambda: True)
    yield request.param
    mx.enable_compile()


def wanted(x: np.ndarray) -> mx.array:
    return mx.array(x.astype(np.float32))


@pytest.mark.parametrize("name", ["silu", "gelu", "elu"])
def test_activations(name: str):
    x = mx.concatenate([mx.linspace(-100, 100, 999), mx.linspace(-0.1, 0.1, 99)])
    expected = oracles.ACTIVATIONS[name](np.array(x, dtype=np.float64))
    found = getattr(ops, name)(x)
    assert_close(found, wanted(expected), 1e-6)
    small = mx.abs(x) < 1  # as exact where values are small
    assert_close(mx.where(small, found, 0), wanted(np.where(small, expected, 0)), 1e-6)


@pytest.mark.parametrize("shape", [(5, 8), (600, 700)], ids=["small", "large"])
@pytest.mark.parametrize("rows", [1, 3, 300])
def test_project(shape: tuple[int, int], rows: int):
    layer = nn.Linear(shape[1], shape[0], bias=False)
    x, residual = mx.random.normal((rows, shape[1])), mx.random.normal((rows, shape[0]))
    y = np.array(x, dtype=np.float64) @ np.array(layer.weight, dtype=np.float64).T
    assert_close(ops.project(x, layer), wanted(y))
    assert_close(ops.project_add(x, residual, layer), wanted(y + np.array(residual)))


def test_project_through_biases_and_quantised_layers():
    x, residual = mx.random.normal((3, 64)), mx.random.normal((3, 7))
    layer = nn.Linear(64, 7)
    for part in (layer, layer.to_quantized(32, 4)):
        assert mx.array_equal(ops.project(x, part), part(x))
        assert_close(ops.project_add(x, residual, part), residual + part(x))


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
        assert_close(ops.project(x, layer), layer(x), 1e-5)
        assert_close(ops.project_add(x, residual, layer), residual + layer(x), 1e-5)
        layer["weight"] = layer["weight"][::-1]  # another one, from here on
    half = x.astype(mx.bfloat16)
    assert ops.project(half, layer).dtype == layer(half).dtype
    assert set(layer.parameters()) == names


def test_project_follows_a_replaced_weight():
    layer, x = nn.Linear(8, 5, bias=False), mx.ones((2, 8))
    ops.project(x, layer)
    layer.weight = mx.full((5, 8), 2.0)
    assert_close(ops.project(x, layer), mx.full((2, 5), 16.0))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("lead", [(1,), (2, 3), (400,)])
def test_linear(lead: tuple[int, ...], bias: bool):
    x, weight = mx.random.normal((*lead, 6)), mx.random.normal((4, 6))
    b = mx.random.normal((4,)) if bias else None
    expected = np.array(x) @ np.array(weight).T + (0 if b is None else np.array(b))
    assert_close(ops.linear(x, weight, b), wanted(expected))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("k, stride, dilation", [(1, 1, 1), (1, 2, 1), (7, 1, 1)])
@pytest.mark.parametrize("groups", [1, 3])
def test_conv1d(k: int, stride: int, dilation: int, groups: int, bias: bool):
    _check_conv(k, stride, dilation, groups, bias)


@pytest.mark.parametrize("k, stride, dilation", [(8, 4, 1), (3, 1, 2), (4, 2, 3)])
def test_conv1d_with_stride_and_dilation(k: int, stride: int, dilation: int):
    _check_conv(k, stride, dilation, 1, True)


def _check_conv(k: int, stride: int, dilation: int, groups: int, bias: bool) -> None:
    x = mx.random.normal((2, 21, 6))
    weight = mx.random.normal((9, k, 6 // groups))
    b = mx.random.normal((9,)) if bias else None
    found = ops.conv1d(x, weight, b, stride, dilation, groups)
    a, w = np.array(x, dtype=np.float64), np.array(weight, dtype=np.float64)
    steps = (21 - (k - 1) * dilation - 1) // stride + 1
    expected = np.zeros((2, steps, 9)) + (0 if b is None else np.array(b))
    for t in range(steps):
        for out in range(9):
            mine = slice(out // (9 // groups) * (6 // groups), None)
            for i in range(k):
                taken = a[:, t * stride + i * dilation, mine][:, : 6 // groups]
                expected[:, t, out] += taken @ w[out, i]
    assert_close(found, wanted(expected))
