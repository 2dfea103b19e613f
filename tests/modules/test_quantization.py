"""Residual vector quantisation against its definition in NumPy."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moshi_mlx.modules.quantization import (
    EuclideanCodebook,
    SplitResidualVectorQuantizer,
)
from tests.tiny import assert_close, parameters

Array = np.ndarray


def fill(module) -> None:
    """Random codebooks, used unequally."""
    for name, w in parameters(module).items():
        if name.endswith("cluster_usage"):
            value = mx.random.uniform(0.2, 5.0, w.shape)
        elif name.endswith("embedding_sum"):
            value = mx.random.normal(w.shape)
        else:
            continue
        module.load_weights([(name, value)], strict=False)


def table(book) -> Array:
    usage = np.maximum(np.array(book.cluster_usage, np.float64), 1e-5)
    return np.array(book.embedding_sum, np.float64) / usage[:, None]


def chain_codes(tables: list[Array], x: Array) -> tuple[list[int], Array, float]:
    """Codes of one vector, what they add up to, and how near the nearest miss was."""
    codes, rest, margin = [], x.copy(), np.inf
    for rows in tables:
        far = ((rest - rows) ** 2).sum(axis=1)
        order = np.argsort(far)
        margin = min(margin, far[order[1]] - far[order[0]])
        codes.append(int(order[0]))
        rest = rest - rows[order[0]]
    return codes, x - rest, margin


@settings(max_examples=50, deadline=None)
@given(
    dim=st.integers(1, 8),
    bins=st.sampled_from([2, 7, 16, 64, 128]),
    nq=st.integers(1, 5),
    rows=st.integers(1, 6),
    seed=st.integers(0, 2**31),
)
def test_codes_are_the_nearest_of_what_is_left(dim, bins, nq, rows, seed):
    mx.random.seed(seed)
    rvq = SplitResidualVectorQuantizer(dim, 5, 4, nq, bins)
    fill(rvq)
    x = mx.random.normal((1, rows, 5))
    codes = rvq.encode(x)
    assert codes.shape == (1, nq, rows) and codes.dtype == mx.int32
    chains = [rvq.rvq_first] + ([rvq.rvq_rest] if nq > 1 else [])
    expected = np.zeros((rows, 4))
    at = 0
    for chain in chains:
        tables = [table(layer.codebook) for layer in chain.vq.layers]
        w_in = np.array(chain.input_proj.weight, np.float64)[:, 0]
        w_out = np.array(chain.output_proj.weight, np.float64)[:, 0]
        found = np.array(codes)[0, at : at + len(tables)]
        at += len(tables)
        for t in range(rows):
            latent = w_in @ np.array(x, np.float64)[0, t]
            wanted, _, margin = chain_codes(tables, latent)
            if margin > 1e-4:  # else rounding may choose
                assert found[:, t].tolist() == wanted
            taken = [rows_[c] for rows_, c in zip(tables, found[:, t], strict=True)]
            expected[t] += w_out @ np.sum(taken, axis=0)
    assert_close(rvq.decode(codes)[0], mx.array(expected, mx.float32), 1e-4)


def test_fewer_codebooks_are_the_first_ones():
    rvq = SplitResidualVectorQuantizer(6, 6, 6, 5, 32)
    fill(rvq)
    x = mx.random.normal((2, 9, 6))
    codes = rvq.encode(x)
    for n in range(1, 6):
        assert mx.array_equal(rvq.encode(x, n), codes[:, :n])
    # Each acoustic codebook adds to the sum, so every prefix decodes to its own latent.
    steps = [rvq.decode(codes[:, :n]) for n in range(1, 6)]
    zero = rvq.rvq_rest.decode(codes[:, 1:3])
    assert_close(steps[2], steps[0] + zero)
    assert not mx.allclose(steps[3], steps[4])


def test_more_codebooks_bring_the_sum_nearer():
    rvq = SplitResidualVectorQuantizer(4, 4, 4, 9, 64)
    fill(rvq)
    chain = rvq.rvq_rest.vq
    for i, layer in enumerate(chain.layers):  # finer and finer, as trained ones are
        layer.codebook.embedding_sum = layer.codebook.embedding_sum * 0.5**i
    x = mx.random.normal((1, 200, 4))
    errors = []
    for n in (1, 2, 4, 8):
        sums = chain.decode(chain.encode(x, n))
        errors.append(mx.square(x - sums).mean().item())
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 10


def test_of_equally_near_codes_the_first_is_taken():
    book = EuclideanCodebook(2, 3)
    book.cluster_usage = mx.ones(3)
    book.embedding_sum = mx.array([[5.0, 5.0], [1.0, 0.0], [1.0, 0.0]])
    assert book.encode(mx.array([[0.9, 0.1]])).tolist() == [1]


def test_a_code_that_was_never_used_stays_finite():
    book = EuclideanCodebook(2, 2)
    book.cluster_usage = mx.array([0.0, 1.0])
    book.embedding_sum = mx.array([[1e-5, 0.0], [0.0, 1.0]])
    assert_close(book.decode(mx.array([0, 1])), mx.array([[1.0, 0.0], [0.0, 1.0]]))


def test_replaced_codebooks_are_used():
    rvq = SplitResidualVectorQuantizer(3, 3, 3, 2, 8)
    fill(rvq)
    codes = rvq.encode(mx.random.normal((1, 4, 3)))
    before = rvq.decode(codes)
    for chain in (rvq.rvq_first, rvq.rvq_rest):
        book = chain.vq.layers[0].codebook
        book.embedding_sum = 2 * book.embedding_sum
    assert_close(rvq.decode(codes), 2 * before)


@pytest.mark.parametrize("n", [0, 4])
def test_a_number_of_codebooks_that_is_not_there_is_refused(n):
    rvq = SplitResidualVectorQuantizer(3, None, None, 3, 8)
    with pytest.raises(ValueError, match=f"^{n} codebooks .* has 3: give 1 to 3"):
        rvq.encode(mx.zeros((1, 1, 3)), n)
    with pytest.raises(ValueError, match=f"^{n} codebooks"):
        rvq.decode(mx.zeros((1, n, 1), mx.int32))
