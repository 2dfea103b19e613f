"""The CPU's forms and the GPU's compute the same as NumPy."""

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.fast import ops
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
