"""The CPU's ELU, compiled where it can be and not: exact at both ends and between."""

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.fast import ops


@pytest.mark.cpu_forms
@pytest.mark.parametrize("may_compile", [True, False])
def test_elu_is_exact(may_compile, monkeypatch):
    if not may_compile:
        monkeypatch.setattr(ops, "compiles", lambda: False)
    ends = mx.array([-np.inf, -1e30, -1e-30, 0, 1e-30])
    x = mx.concatenate([ends, mx.random.normal((5000,)) * 8, mx.linspace(-20, 1, 5000)])
    exact = np.array(x, np.float64)
    exact = np.where(exact > 0, exact, np.expm1(np.minimum(exact, 0)))
    found = np.array(ops.elu(x), np.float64)
    assert np.abs(found - exact).max() < 2e-7
    large = mx.array([17.0, 1e30, np.inf])
    assert mx.array_equal(ops.elu(large), large)
    small = np.abs(exact) < 1e-3  # relative error too, where ELU is nearly x
    assert (np.abs(found - exact)[small] <= 1e-6 * np.abs(exact[small])).all()


def test_elu_of_other_types_keeps_them():
    x = mx.array([-1.0, 2.0], mx.bfloat16)
    assert ops.elu(x).dtype == mx.bfloat16
    assert ops.elu(x).tolist() == pytest.approx([np.expm1(-1), 2], rel=0.01)
