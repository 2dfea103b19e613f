"""Noise goes on where it was kept, and tokens outside the vocabulary are no tokens."""

import mlx.core as mx
import pytest

from moshi_mlx.utils.sampling import (
    RowNoise,
    keep_min_p,
    penalise_repeats,
    row_seeds,
)

BLOCK = RowNoise.BLOCK


@pytest.mark.parametrize("draws", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
def test_noise_goes_on_from_a_snapshot_after_any_number_of_draws(draws):
    drawn, skipped, continued = RowNoise([7]), RowNoise([7]), RowNoise([1])
    for _ in range(draws):
        drawn.next(0, 3)
    skipped.skip(0, draws)
    continued.restore(skipped.snapshot([0]), [0])
    for _ in range(3):
        expected = drawn.next(0, 3).tolist()
        assert skipped.next(0, 3).tolist() == continued.next(0, 3).tolist() == expected


def test_tokens_outside_the_vocabulary_are_not_penalised():
    logits = mx.array([[[1.0, 2.0, -1.0]]])
    said = mx.array([[-1, 3, 7]])
    assert penalise_repeats(logits, said, 2.0).tolist() == logits.tolist()
    assert penalise_repeats(logits, mx.array([[2, 0]]), 2.0).tolist() == [
        [[0.5, 2.0, -2.0]]
    ]


def test_the_least_probability_is_relative_to_each_rows_likeliest_token():
    logits = mx.log(mx.array([[[0.8, 0.1, 0.1]], [[0.4, 0.3, 0.3]]]))
    kept = keep_min_p(logits, 0.5, 1) > -mx.inf
    assert kept.tolist() == [[[True, False, False]], [[True, True, True]]]


def test_seeds_that_are_drawn_are_of_31_bits():
    drawn = row_seeds(None, 200)
    assert len(set(drawn)) == 200 and 2**28 < max(drawn) < 2**31


def test_a_token_outside_the_vocabulary_penalises_no_row():
    logits = mx.ones((2, 1, 5))
    said = mx.array([[8, -1], [5, -2]])  # 8 would be the next row's 2
    assert mx.array_equal(penalise_repeats(logits, said, 2.0), logits)
