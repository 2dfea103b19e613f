"""Embeddings with a zero token, of low rank, and of two streams in one token."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from moshi_mlx.modules.embedding import QuantizedScaledEmbedding, ScaledEmbedding
from tests import oracles
from tests.tiny import assert_close, number, parameters

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "low rank": {"low_rank": 8},
    "two streams": {"demux_second_stream": True},
    "two streams of low rank": {"demux_second_stream": True, "low_rank": 8},
    "normed": {"norm": True},
    "normed, low rank": {"norm": True, "low_rank": 8},
}
ROWS = 11


def embedding(**options: Any) -> ScaledEmbedding:
    layer = ScaledEmbedding(ROWS, 32, **options)
    if "norm" in layer:
        layer.norm.weight = mx.random.normal(layer.norm.weight.shape)
        layer.norm.bias = mx.random.normal(layer.norm.bias.shape)
    return layer


def tokens(demux: bool = False) -> mx.array:
    last = ROWS * (ROWS + 1) if demux else ROWS
    rng = np.random.default_rng(0)
    found = rng.integers(0, last, (3, 20))
    found[0, :4] = [0, last - 1, ROWS - 1, min(ROWS, last - 1)]
    found[1, ::3] = -1
    return mx.array(found.astype(np.int32))


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_s_embedding_is_the_oracle_s(kind: str):
    options = KINDS[kind]
    layer = embedding(**options)
    demux = options.get("demux_second_stream", False)
    given = tokens(demux)
    w = {f"e.{k}": np.array(v) for k, v in parameters(layer).items()}
    rows = [oracles.embed(w, "e", int(t), demux) for t in np.array(given).ravel()]
    expected = np.stack(rows).reshape(3, 20, 32).astype(np.float32)
    assert_close(layer(given), mx.array(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_the_zero_token_is_exactly_zero_also_quantised(kind: str):
    layer = nn.Sequential(embedding(**KINDS[kind]))
    given = tokens(KINDS[kind].get("demux_second_stream", False))
    full = layer(given)
    # as nn.quantize does it: the whole table of a plain one, else the matrices inside
    nn.quantize(
        layer,
        bits=8,
        group_size=32,
        class_predicate=lambda _, m: (
            hasattr(m, "to_quantized") and m["weight"].shape[-1] % 32 == 0
        ),
    )
    found = layer(given)
    assert (np.array(found)[np.array(given) == -1] == 0).all()
    assert_close(found, full, 0.05)


def test_a_plain_table_becomes_a_quantised_one():
    layer = embedding()
    quantised = layer.to_quantized(group_size=32, bits=8)
    assert isinstance(quantised, QuantizedScaledEmbedding)
    assert set(parameters(quantised)) == {"weight", "scales", "biases"}
    assert number(mx.abs(quantised(mx.array([-1, -1]))).max()) == 0


def test_half_precision_stays_half():
    layer = embedding()
    layer.set_dtype(mx.bfloat16)
    assert layer(tokens()).dtype == mx.bfloat16
