"""The depth transformer: each codebook attends to the earlier ones of its frame."""

import mlx.core as mx
import pytest

from moshi_mlx.models import Lm
from tests import tiny
from tests.tiny import BASE, assert_close, number

pytestmark = pytest.mark.usefixtures("uncompiled")


def frame_logits(
    lm: Lm, hidden: mx.array, text: int, told: list[int], steps: int | None = None
) -> list[mx.array]:
    """Logits ``[B, 1, card]`` of each codebook of a frame whose tokens are given."""
    found = []

    def choose(step: int, logits: mx.array) -> mx.array:
        found.append(logits)
        return mx.full((len(hidden), 1), told[step])

    start = mx.full((len(hidden), 1), text)
    lm.depformer(hidden, start, choose, steps)
    return found


def hidden_of(rows: int = 1) -> mx.array:
    return mx.random.normal((rows, 1, BASE["dim"]))


def test_it_is_no_feed_forward_network():
    """With codebook 1's token held fixed, codebook 0's changes codebook 2's logits.

    A feed-forward network per codebook, told the token before, could not know.
    """
    lm, hidden = tiny.lm(), hidden_of()
    a = frame_logits(lm, hidden, 7, [3, 5, 0])
    b = frame_logits(lm, hidden, 7, [4, 5, 0])
    assert mx.array_equal(a[0], b[0])
    assert number(mx.abs(a[2] - b[2]).max()) > 0.1 * number(mx.abs(a[2]).max())


def test_it_is_attention_that_knows():
    lm, hidden = tiny.lm(), hidden_of()
    for part in lm.depformer.slices:
        for layer in part.transformer.layers:
            weight = layer.self_attn.out_proj.weight
            layer.self_attn.out_proj.weight = mx.zeros_like(weight)
    a = frame_logits(lm, hidden, 7, [3, 5, 0])
    b = frame_logits(lm, hidden, 7, [4, 5, 0])
    assert not mx.array_equal(a[1], b[1])  # told directly
    assert mx.array_equal(a[2], b[2])


def test_the_text_reaches_every_codebook():
    lm, hidden = tiny.lm(), hidden_of()
    a = frame_logits(lm, hidden, 7, [3, 5, 0])
    b = frame_logits(lm, hidden, 8, [3, 5, 0])
    for one, other in zip(a, b, strict=True):
        assert not mx.array_equal(one, other)


def test_nothing_is_remembered_from_frame_to_frame():
    lm, hidden = tiny.lm(), hidden_of()
    first = frame_logits(lm, hidden, 7, [3, 5, 0])
    frame_logits(lm, hidden_of(), 8, [1, 2, 3])
    again = frame_logits(lm, hidden, 7, [3, 5, 0])
    for one, other in zip(first, again, strict=True):
        assert mx.array_equal(one, other)


def test_the_first_steps_do_not_depend_on_how_many_follow():
    lm, hidden = tiny.lm(), hidden_of()
    whole = frame_logits(lm, hidden, 7, [3, 5, 0])
    part = frame_logits(lm, hidden, 7, [3, 5, 0], steps=2)
    assert len(part) == 2
    for one, other in zip(whole, part, strict=False):
        assert mx.array_equal(one, other)


def test_rows_of_a_batch_do_not_touch():
    lm, hidden = tiny.lm(), hidden_of(3)
    batch = frame_logits(lm, hidden, 7, [3, 5, 0])
    for row in range(3):
        alone = frame_logits(lm, hidden[row : row + 1], 7, [3, 5, 0])
        for one, other in zip(batch, alone, strict=True):
            assert_close(one[row : row + 1], other)


def test_steps_that_share_weights_share_their_input():
    lm = tiny.lm(depformer_weights_per_step_schedule=[0, 1, 1])
    parts = [part.linear_in["weight"] for part in lm.depformer.slices]
    assert mx.array_equal(parts[1], parts[2])
    assert not mx.array_equal(parts[0], parts[1])
    hidden = hidden_of()
    a = frame_logits(lm, hidden, 7, [3, 5, 0])
    lm.depformer.slices[0].linear_in.weight = parts[1]
    b = frame_logits(lm, hidden, 7, [3, 5, 0])
    assert not mx.array_equal(a[0], b[0])
