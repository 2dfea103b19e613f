"""What the codec refuses, in one sentence."""

import mlx.core as mx
import pytest

from tests.tiny_mimi import (
    SIZE,
    noise,
    random_mimi,
)


@pytest.mark.parametrize("samples", [0, 1, SIZE - 1, SIZE + 1])
def test_a_partial_frame_of_a_stream_is_refused(samples):
    with pytest.raises(ValueError, match=f"got {samples} samples: .* frames of 8"):
        random_mimi().encode_step(mx.zeros((1, 1, samples)))


def test_wrong_arrays_are_refused_in_one_sentence():
    mimi = random_mimi()
    for pcm, words in (
        (mx.zeros((1, SIZE)), r"shape \(1, 8\): Mimi takes \[batch, 1, samples\]"),
        (mx.zeros((1, 2, SIZE)), r"shape \(1, 2, 8\)"),
        (mx.zeros((1, 1, SIZE), mx.int16), "floats from -1 to 1"),
    ):
        with pytest.raises(ValueError, match=words):
            mimi.encode(pcm)
        with pytest.raises(ValueError, match=words):
            mimi.encode_step(pcm)
    for codes, words in (
        (mx.zeros((4, 1), mx.int32), r"\[batch, 1 to 4 codebooks, frames\]"),
        (mx.zeros((1, 5, 1), mx.int32), r"shape \(1, 5, 1\)"),
        (mx.zeros((1, 4, 1)), "Mimi takes integers"),
    ):
        with pytest.raises(ValueError, match=words):
            mimi.decode(codes)
        with pytest.raises(ValueError, match=words):
            mimi.decode_step(codes)
    with pytest.raises(ValueError, match="got no frames"):
        mimi.decode_step(mx.zeros((1, 4, 0), mx.int32))
    for n in (0, 5):
        with pytest.raises(ValueError, match=rf"{n} codebooks were asked .* has 4"):
            mimi.encode(mx.zeros((1, 1, SIZE)), n)


def test_a_state_serves_one_batch_size():
    mimi = random_mimi()
    state = mimi.make_state(2)
    with pytest.raises(ValueError, match="stream has 2 rows but got 1"):
        mimi.encode_step(noise(1), state)
    with pytest.raises(ValueError, match=r"row 2 .* state of 2 rows: give 0 to 1"):
        state.reset([2])
    mimi.encode_step(noise(1))
    with pytest.raises(ValueError, match=r"has 1 rows but got 3: call reset_state\(\)"):
        mimi.encode_step(noise(1, batch=3))
    mimi.reset_state()
    assert mimi.encode_step(noise(1, batch=3)).shape == (3, 4, 1)
