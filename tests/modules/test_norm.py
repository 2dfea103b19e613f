"""Norms by the names of config.json."""

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.modules.norm import NORM_EPS, make_norm
from tests import oracles
from tests.tiny import assert_close, number


@pytest.mark.parametrize("kind", NORM_EPS)
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_norms_are_the_oracle_s_at_every_loudness(kind: str, size: float):
    rng = np.random.default_rng(0)
    x = size * rng.standard_normal((2, 5, 16)).astype(np.float32)
    weight, bias = rng.standard_normal((2, 16)).astype(np.float32)
    layer = make_norm(kind, 16)
    layer.weight = mx.array(weight)
    if kind.startswith("layer"):
        layer.bias = mx.array(bias)
    w = {"n.weight": weight, "n.alpha": weight, "n.bias": bias}
    expected = oracles.norm(kind, x.astype(np.float64), w, "n")
    assert_close(layer(mx.array(x)), mx.array(expected.astype(np.float32)))


def test_epsilons_are_pytorch_s():
    assert NORM_EPS == oracles.EPS


def test_half_precision_sums_in_float32():
    x = mx.full((1, 4096), 300.0, dtype=mx.float16)  # squares overflow float16
    layer = make_norm("rms_norm_f32", 4096)
    layer.set_dtype(mx.float16)
    y = layer(x)
    assert y.dtype == mx.float16
    assert number(mx.abs(y - 1).max()) < 1e-2


def test_an_unknown_norm_is_named():
    with pytest.raises(ValueError, match="norm 'group_norm' is unknown: use one of"):
        make_norm("group_norm", 8)
