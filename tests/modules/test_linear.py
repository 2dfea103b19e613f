"""Products as MLX's CPU backend computes them here: through `linux_cpu/products.c`.

Rows and widths around its bounds: few rows and many, streams that divide a weight and
that do not, vectors that fill a row and that do not.
"""

import sys

import mlx.core as mx
import numpy as np
import pytest

ROWS = [1, 2, 3, 4, 5, 7, 8, 11, 12, 13]
SHAPES = [(1, 1), (3, 5), (64, 64), (67, 130), (2048, 7), (5, 4099)]


def near(found: mx.array, expected: np.ndarray, size: np.ndarray) -> bool:
    """Within float32's rounding of sums whose terms add up to ``size``."""
    return bool((np.abs(np.array(found) - expected) <= 1e-6 * size + 1e-6).all())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rows", ROWS)
def test_products_of_few_rows_are_exact(rows: int, shape: tuple[int, int]):
    x, weight = mx.random.normal((rows, shape[1])), mx.random.normal(shape)
    exact = np.array(x, np.float64) @ np.array(weight, np.float64).T
    size = np.abs(np.array(x)) @ np.abs(np.array(weight)).T
    assert near(x @ weight.T, exact, size)
    bias = mx.random.normal((rows, shape[0]))
    assert near(mx.addmm(bias, x, weight.T), exact + np.array(bias), size)
    assert near(mx.addmm(bias, x, weight.T, 0.5, 2), exact / 2 + 2 * bias, size)


@pytest.mark.parametrize("rows", [2, 20])
def test_products_of_parts_of_arrays_leave_the_rest_alone(rows: int):
    x, weight = mx.random.normal((rows, 80))[:, 3:70], mx.random.normal((90, 80))
    part = weight[5:81, 11:78]
    exact = np.array(x, np.float64) @ np.array(part, np.float64).T
    assert near(x @ part.T, exact, np.full(exact.shape, 80.0))
    q, k = mx.random.normal((4, rows, 16)), mx.random.normal((4, 30, 16))[::-1]
    exact = np.einsum("hnd,hmd->hnm", np.array(q), np.array(k))
    assert near(q @ k.swapaxes(-1, -2), exact, np.full(exact.shape, 40.0))


def test_what_is_not_a_number_stays_so_and_old_memory_is_not_read():
    x = mx.array([[1.0, mx.nan, 0.0], [1.0, 2.0, mx.inf]])
    y = np.array(x @ mx.ones((5, 3)).T)
    assert np.isnan(y[0]).all() and np.isinf(y[1]).all()


@pytest.mark.skipif(
    sys.platform != "linux", reason="not on macOS: Accelerate computes it"
)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_row_of_few_gives_what_it_gives_alone(shape: tuple[int, int]):
    x, weight = mx.random.normal((11, shape[1])), mx.random.normal(shape)
    alone = mx.concatenate([x[i : i + 1] @ weight.T for i in range(11)])
    for rows in range(2, 12):
        assert mx.array_equal(x[:rows] @ weight.T, alone[:rows])
