"""Acoustic delays of whole sequences."""

import mlx.core as mx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from moshi_mlx.models.delays import delay_sequence, undelay_sequence

DELAYS = st.lists(st.integers(0, 6), min_size=1, max_size=4)


@settings(max_examples=50, deadline=None)
@given(delays=DELAYS, t=st.integers(1, 8), seed=st.integers(0, 99))
def test_delaying_shifts_each_stream_and_fills_with_its_initial_token(delays, t, seed):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 50, (2, len(delays), t))
    initial = rng.integers(50, 60, (1, len(delays), 1))
    found = delay_sequence(mx.array(codes), delays, mx.array(initial))
    for b in range(2):
        for k, delay in enumerate(delays):
            line = [initial[0, k, 0]] * delay + codes[b, k].tolist()
            assert found[b, k].tolist() == line[:t]


@settings(max_examples=50, deadline=None)
@given(delays=DELAYS, t=st.integers(1, 8), seed=st.integers(0, 99))
def test_undelaying_aligns_logits_and_hides_what_was_not_predicted(delays, t, seed):
    rng = np.random.default_rng(seed)
    codes = rng.integers(-1, 3, (2, len(delays), t))
    logits = rng.standard_normal((2, len(delays), t, 5)).astype(np.float32)
    found, mask = undelay_sequence(mx.array(logits), delays, mx.array(codes))
    for b in range(2):
        for k, delay in enumerate(delays):
            for step in range(t):
                known = step + delay < t and codes[b, k, step] != -1
                expected = logits[b, k, step + delay] if known else np.zeros(5)
                assert mask[b, k, step].item() == known
                assert found[b, k, step].tolist() == expected.tolist()


@settings(max_examples=50, deadline=None)
@given(delays=DELAYS, t=st.integers(1, 8))
def test_undelaying_takes_delaying_back(delays, t):
    codes = mx.random.randint(0, 50, (2, len(delays), t))
    initial = mx.full((1, len(delays), 1), 99)
    delayed = delay_sequence(codes, delays, initial)
    back, mask = undelay_sequence(delayed[..., None], delays, codes)
    assert mx.array_equal(mx.where(mask, codes, 0), back[..., 0])
    hidden = sum(2 * min(delay, t) for delay in delays)
    assert mask.size - int(np.array(mask).sum()) == hidden
