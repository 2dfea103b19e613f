"""Frames come out whole whatever the blocks were, and nothing is lost or doubled."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moshi_mlx.audio import FRAME, SAMPLE_RATE, Framer, PlaybackRing
from moshi_mlx.audio.framing import rms
from moshi_mlx.errors import AudioError

SIZES = st.lists(st.integers(0, 50), max_size=30)


def count(start: int, num: int) -> np.ndarray:
    return np.arange(start, start + num, dtype=np.float32)


def test_a_frame_lasts_80_ms():
    assert FRAME / SAMPLE_RATE == 0.08
    assert Framer().size == FRAME


@given(SIZES, st.integers(1, 20))
def test_frames_put_together_are_the_stream(sizes, size):
    framer = Framer(size)
    out, start = [], 0
    for num in sizes:
        out += framer.push(count(start, num))
        start += num
    pending = framer.pending
    assert pending == start % size
    last = framer.flush()
    assert (last is None) == (pending == 0)
    if last is not None:
        assert np.all(last[pending:] == 0)
        out.append(last)
    assert all(frame.shape == (size,) and frame.dtype == np.float32 for frame in out)
    heard = np.concatenate([*out, np.zeros(0, np.float32)])
    assert np.array_equal(heard[:start], count(0, start))
    assert framer.flush() is None


def test_two_channels_are_refused_with_their_shape():
    with pytest.raises(AudioError, match=r"\[2, 1920\]"):
        Framer().push(np.zeros((2, FRAME), np.float32))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 25)), max_size=40))
def test_the_ring_is_a_queue_that_forgets_its_oldest(moves):
    ring, model, written = PlaybackRing(16), [], 0
    dropped = missing = 0
    for is_write, num in moves:
        if is_write:
            ring.write(count(written, num))
            model += list(count(written, num))
            written += num
            dropped += max(0, len(model) - 16)
            model = model[-16:]
        else:
            want = model[:num] + [0.0] * (num - len(model))
            missing += max(0, num - len(model))
            model = model[num:]
            assert np.array_equal(ring.read(num), np.array(want, np.float32))
        assert len(ring) == len(model)
    assert (ring.dropped, ring.missing) == (dropped, missing)


def test_loudness_is_that_of_the_whole_and_none_where_there_is_nothing():
    assert rms(np.full(1920, -0.5, np.float32)) == pytest.approx(0.5)
    assert rms(np.zeros(0, np.float32)) == 0
