"""Heads and attention, in the CPU's form and the GPU's, against plain loops."""

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.fast import ops
from moshi_mlx.fast.heads import Heads
from tests import oracles
from tests.tiny import assert_close

D = 8  # of a head


@pytest.fixture(params=["cpu", "gpu"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The arithmetic of each kind of device, both run on CPU."""
    if request.param == "gpu":
        monkeypatch.setattr(ops, "on_gpu", lambda: True)
    return request.param


@pytest.mark.parametrize("t", [1, 3])
@pytest.mark.parametrize("start", [0, 1000, [0, 7]])
@pytest.mark.parametrize("repeat", [1, 2])
@pytest.mark.parametrize("rotation", [None, "pairs", "halves"])
def test_heads_are_split_and_rotated_by_position(form, t, start, repeat, rotation):
    h, kv = 4, 4 // repeat
    heads = Heads(h, kv, D, 100.0 if rotation else None, rotation != "halves")
    qkv = mx.random.normal((2 * t, (h + 2 * kv) * D))
    where = mx.array(start) if isinstance(start, list) else start
    table = heads.table(where, t, mx.float32)
    q, k, v = heads.split(qkv, 2, t, table)
    starts = start if isinstance(start, list) else [start] * 2
    rows = np.array(qkv).reshape(2, t, h + 2 * kv, D)
    for b in range(2):
        at = starts[b] + np.arange(t)
        for n in range(h + 2 * kv):
            expected = rows[b, :, n]
            if rotation and n < h + kv:
                expected = oracles.rope(expected, at, 100.0, rotation == "pairs")
            if n < h:  # the CPU's form has scaled the queries already
                found = q[b, n] * (D**0.5 if heads._by_hand(mx.float32) else 1)
            else:
                found = k[b, n - h] if n < h + kv else v[b, n - h - kv]
            assert_close(found, mx.array(expected.astype(np.float32)), 2e-5)


# PyTorch moshi's, of a head 16 wide with a longest period of 10000
SPEEDS = [
    1.0,
    0.3162277638912201,
    0.09999999403953552,
    0.03162277489900589,
    0.009999999776482582,
    0.0031622766982764006,
    0.0009999999310821295,
    0.00031622781534679234,
]


@pytest.mark.cpu_forms
@pytest.mark.parametrize("start", [45_000, 1_000_000])  # after an hour, and a day
@pytest.mark.parametrize("interleaved", [True, False])
def test_rotation_far_into_a_stream_is_pytorchs_to_the_last_bit(start, interleaved):
    heads = Heads(1, 1, 16, 10_000.0, interleaved)
    qkv = mx.random.normal((2, 3 * 16))
    _, k, _ = heads.split(qkv, 1, 2, heads.table(start, 2, mx.float32))
    positions = np.arange(start, start + 2, dtype=np.float32)
    angles = (positions[:, None] * np.array(SPEEDS, np.float32)).astype(np.float64)
    x = np.array(qkv)[:, 16:32].reshape(2, *((8, 2) if interleaved else (2, 8)))
    pairs = x if interleaved else x.swapaxes(1, 2)
    turned = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * angles)
    expected = np.stack([turned.real, turned.imag], axis=2 if interleaved else 1)
    found = np.array(k)[0, 0]
    np.testing.assert_allclose(found, expected.reshape(2, 16), atol=2e-6)


@pytest.mark.parametrize("t, keys", [(1, 1), (1, 6), (3, 6)])
@pytest.mark.parametrize("repeat", [1, 2])
@pytest.mark.parametrize("hidden", [False, True])
def test_queries_attend_to_what_the_mask_shows(form, t, keys, repeat, hidden):
    h, kv, b = 4, 4 // repeat, 2
    heads = Heads(h, kv, D)
    qkv = mx.random.normal((b * t, (h + 2 * kv) * D))
    q, _, _ = heads.split(qkv, b, t, heads.table(0, t, mx.float32))
    k, v = mx.random.normal((2, b, kv, keys, D))
    mask = None
    if hidden:
        mask = mx.random.bernoulli(0.5, (b, 1, t, keys)) | (mx.arange(keys) == 0)
    found = heads.attend(q, k, v, mask)
    raw = np.array(qkv).reshape(b, t, -1, D)
    rows = []
    for row in range(b):
        for step in range(t):
            seen = np.ones(keys, bool) if mask is None else np.array(mask[row, 0, step])
            for head in range(h):
                one = head // repeat
                key, value = np.array(k[row, one])[seen], np.array(v[row, one])[seen]
                rows.append(oracles.attend(raw[row, step, head], key, value))
    expected = np.stack(rows).reshape(b * t, h * D).astype(np.float32)
    assert_close(found, mx.array(expected))
