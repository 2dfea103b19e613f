"""Caches against attention over lists that never forget."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moshi_mlx.modules.kv_cache import KVCache, RotatingKVCache, window_mask
from tests.oracles import window_attention
from tests.tiny import assert_close

DIM = 4
HEADS = 2


class Streams:
    """A batch of streams through one ring, beside all they ever were given."""

    def __init__(self, b: int, context: int, step: int = 256):
        self.cache = RotatingKVCache(DIM, HEADS, context, step=step)
        self.context = context
        self.rng = np.random.default_rng(0)
        self.past: list[np.ndarray] = [np.zeros((3, HEADS, 0, DIM)) for _ in range(b)]

    def advance(self, t: int, active: list[bool] | None = None) -> None:
        """Run ``t`` positions; every active row must see its window exactly."""
        b = len(self.past)
        new = self.rng.standard_normal((3, b, HEADS, t, DIM)).astype(np.float32)
        plan = self.cache.plan(b, t, active)
        keys, values = self.cache.update(mx.array(new[1]), mx.array(new[2]), plan)
        found = mx.fast.scaled_dot_product_attention(
            mx.array(new[0]), keys, values, scale=DIM**-0.5, mask=plan.mask
        )
        for row in range(b):
            if active is not None and not active[row]:
                continue
            whole = np.concatenate([self.past[row], new[:, row]], axis=2)
            self.past[row] = whole
            for head in range(HEADS):
                expected = window_attention(
                    whole[0, head], whole[1, head], whole[2, head], self.context
                )[-t:]
                expected = mx.array(expected.astype(np.float32))
                assert_close(found[row, head], expected, 1e-5)

    def reset(self, rows: list[int] | None) -> None:
        self.cache.reset(rows)
        for row in range(len(self.past)) if rows is None else rows:
            self.past[row] = self.past[row][:, :, :0]


@pytest.mark.parametrize("t", [1, 2, 5, 20])
@pytest.mark.parametrize("context", [1, 4, 9])
def test_every_step_length_sees_the_exact_window_past_two_wraps(context: int, t: int):
    streams = Streams(1, context)
    while streams.cache.offset < 2 * streams.cache.max_size + 3 * t:
        streams.advance(t)


def test_step_lengths_may_change_at_any_time():
    streams = Streams(2, 6, step=1)
    for t in (1, 2, 5, 20, 1, 1, 5, 2, 20, 20, 1, 5, 1):
        streams.advance(t)
    assert streams.cache.offset == 84


ACTIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("step"),
            st.sampled_from([1, 1, 1, 2, 3, 5, 20]),
            st.none() | st.lists(st.booleans(), min_size=3, max_size=3),
        ),
        st.tuples(st.just("reset"), st.lists(st.integers(0, 2), max_size=3)),
        st.tuples(st.just("reset"), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(context=st.integers(1, 9), step=st.integers(1, 12), actions=ACTIONS)
def test_rows_start_pause_and_reset_on_their_own(context, step, actions):
    streams = Streams(3, context, step)
    for action in actions:
        if action[0] == "reset":
            streams.reset(action[1])
        else:
            streams.advance(*action[1:])
    for row, offset in enumerate(streams.cache.offsets):
        assert offset == streams.past[row].shape[2]


def test_storage_grows_to_its_bound_and_no_further():
    cache = RotatingKVCache(DIM, HEADS, 100, step=4)
    sizes = []
    x = mx.zeros((1, HEADS, 1, DIM))
    for _ in range(300):
        cache.update(x, x, cache.plan(1, 1))
        mx.eval(cache.state)
        sizes.append(cache.nbytes // (2 * HEADS * DIM * 4))
    assert sizes[0] == 4
    assert sorted(sizes) == sizes
    assert set(sizes[100:]) == {100}


def test_storage_is_bounded_by_the_window_and_the_largest_call():
    cache = RotatingKVCache(DIM, HEADS, 10)
    for t in (1, 5, 1, 5, 3, 1) * 10:
        x = mx.zeros((1, HEADS, t, DIM))
        cache.update(x, x, cache.plan(1, t))
    assert cache.nbytes == 2 * HEADS * DIM * 4 * (10 + 5 - 1)


@pytest.mark.parametrize("t", [1, 2, 5])
def test_a_reserved_ring_stays_where_it_is(t: int):
    """Past three wraps, also of calls that straddle its end."""
    streams = Streams(2, 10)
    streams.cache.reserve(2, mx.float32, t)
    mx.eval(streams.cache.stored)
    held, places = streams.cache.nbytes, addresses(streams.cache)
    for _ in range(30 // t + 3):
        streams.advance(t)
        mx.eval(streams.cache.stored)
        assert addresses(streams.cache) == places
    streams.reset([1])
    for _ in range(12):
        streams.advance(t, [True, False])
        streams.advance(t)
    assert streams.cache.nbytes == held


@pytest.mark.parametrize("t", [1, 3])
def test_rows_of_a_reserved_ring_read_no_more_than_was_written(t: int):
    streams = Streams(3, 40)
    streams.cache.reserve(3, mx.float32, t)
    for step in range(40):
        active = [True, step % 2 == 0, step > 20]
        seen = max(streams.cache.offsets) + t
        capacity = streams.cache.capacity
        assert streams.cache.plan(3, t, active).live == min(seen, capacity)
        streams.advance(t, active)


def addresses(cache: RotatingKVCache) -> list[int]:
    return [np.asarray(array).ctypes.data for array in cache.stored]


@pytest.mark.parametrize("t", [1, 2, 3, 4, 7])
def test_no_write_of_a_stream_of_fixed_steps_straddles_the_end(t: int):
    cache = RotatingKVCache(DIM, HEADS, 10, step=3)
    x = mx.zeros((1, HEADS, t, DIM))
    for _ in range(40):
        plan = cache.plan(1, t)
        assert isinstance(plan.slots, int) and plan.slots + t <= plan.capacity
        cache.update(x, x, plan)
    assert cache.capacity == -(-(10 + t - 1) // t) * t


def test_a_ring_reserved_for_another_type_is_made_anew():
    cache = RotatingKVCache(DIM, HEADS, 4)
    cache.reserve(1, mx.bfloat16)
    x = mx.ones((1, HEADS, 1, DIM)) / 3
    keys, _ = cache.update(x, x, cache.plan(1, 1))
    assert mx.array_equal(keys, x)


def test_growth_gives_the_old_ring_back():
    cache = RotatingKVCache(32, 4, 4000, step=1000)
    x = mx.zeros((1, 4, 1000, 32))
    for _ in range(5):
        cache.update(x, x, cache.plan(1, 1000))
        mx.eval(cache.stored)
    assert cache.capacity == 5000
    assert mx.get_cache_memory() < 2 * x.nbytes


def test_a_new_ring_holds_nothing_and_a_reset_one_starts_at_position_0():
    cache = RotatingKVCache(DIM, HEADS, 8)
    assert (cache.offset, cache.nbytes, cache.state) == (0, 0, (None, None))
    x = mx.ones((1, HEADS, 3, DIM))
    cache.update(x, x, cache.plan(1, 3))
    assert cache.offset == 3 and cache.nbytes > 0
    cache.reset()
    assert (cache.offset, cache.nbytes, cache.state) == (0, 0, (None, None))


def test_inactive_rows_do_not_advance():
    cache = RotatingKVCache(DIM, HEADS, 8)
    x = mx.ones((2, HEADS, 3, DIM))
    cache.update(x, x, cache.plan(2, 3, active=[True, False]))
    assert cache.offsets == [3, 0]
    cache.reset([0])
    assert cache.offsets == [0, 0]


def test_update_and_fetch_returns_the_stream_in_order():
    ring, whole = RotatingKVCache(DIM, 1, 5), KVCache(DIM, 1)
    for t in (2, 2, 3, 1, 4, 1):
        start = ring.offset
        x = mx.arange(start, start + t, dtype=mx.float32)[None, None, :, None]
        x = mx.broadcast_to(x, (1, 1, t, DIM))
        keys, values = ring.update_and_fetch(x, -x)
        held = keys.shape[2]
        assert keys[0, 0, :, 0].tolist() == list(range(start + t - held, start + t))
        assert mx.array_equal(values, -keys)
        keys, _ = whole.update_and_fetch(x, -x)
        assert keys[0, 0, :, 0].tolist() == list(range(start + t))


def test_window_mask_shows_exactly_context_keys():
    # a ring of 6 slots that holds positions 7 .. 12; queries 11 and 12 see three each
    mask = window_mask(11, 2, 6, 3)
    holds = [12, 7, 8, 9, 10, 11]
    assert mask[0, 0, 0].tolist() == [p in (9, 10, 11) for p in holds]
    assert mask[0, 0, 1].tolist() == [p in (10, 11, 12) for p in holds]


def test_window_mask_hides_slots_never_written():
    mask = window_mask(mx.array([0, 2]), 1, 4, 4)
    assert mask[:, 0, 0].tolist() == [
        [True, False, False, False],
        [True, True, True, False],
    ]


def test_the_growing_cache_is_causal_and_sees_everything():
    cache = KVCache(DIM, 1)
    rng = np.random.default_rng(0)
    past = np.zeros((3, 0, DIM), np.float32)
    for t in (1, 3, 1, 4):
        new = rng.standard_normal((3, t, DIM)).astype(np.float32)
        past = np.concatenate([past, new], axis=1)
        plan = cache.plan(1, t)
        q, k, v = (mx.array(a)[None, None] for a in new)
        keys, values = cache.update(k, v, plan)
        found = mx.fast.scaled_dot_product_attention(
            q, keys, values, scale=DIM**-0.5, mask=plan.mask
        )
        expected = window_attention(past[0], past[1], past[2], past.shape[1])[-t:]
        assert_close(found[0, 0], mx.array(expected.astype(np.float32)))
    assert cache.offset == 9 and cache.nbytes == 2 * 9 * DIM * 4
    cache.reset()
    assert (cache.offset, cache.nbytes, cache.state) == (0, 0, (None, None))


def test_misuse_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match=r"keep=2: only 0 is supported"):
        RotatingKVCache(DIM, HEADS, 8, keep=2)
    cache = RotatingKVCache(DIM, HEADS, 8)
    x = mx.ones((2, HEADS, 1, DIM))
    cache.update(x, x, cache.plan(2, 1))
    with pytest.raises(ValueError, match="holds 2 rows but got 3: reset it"):
        cache.plan(3, 1)
    growing = KVCache(DIM, HEADS)
    with pytest.raises(ValueError, match="use RotatingKVCache for rows"):
        growing.reset([0])
    with pytest.raises(ValueError, match="use RotatingKVCache"):
        growing.plan(1, 1, active=[True])
