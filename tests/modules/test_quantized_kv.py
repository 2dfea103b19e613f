"""Packed keys and values: the exact window over rounded numbers, in half the memory."""

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.modules.kv_cache import RotatingKVCache
from moshi_mlx.modules.quantized_kv import QuantizedKVCache, attend
from tests.oracles import window_attention
from tests.stacks import stack, wave
from tests.tiny import assert_close, number

DIM, HEADS = 64, 2


class Streams:
    """A batch of streams through one ring, beside all they ever were given, rounded."""

    def __init__(self, b: int, context: int, bits: int, repeat: int, step: int = 256):
        self.cache = QuantizedKVCache(DIM, HEADS, context, bits, step)
        self.context, self.repeat = context, repeat
        self.rng = np.random.default_rng(0)
        self.past = [np.zeros((3, HEADS * repeat, 0, DIM)) for _ in range(b)]

    def draw(self, heads: int, t: int) -> mx.array:
        shape = len(self.past), heads, t, DIM
        return mx.array(self.rng.standard_normal(shape).astype(np.float32))

    def rounded(self, x: mx.array) -> np.ndarray:
        packed = mx.quantize(x, 64, self.cache.bits)
        heads = mx.dequantize(*packed, 64, self.cache.bits)
        return np.array(mx.repeat(heads, self.repeat, axis=1))

    def advance(self, t: int, active: list[bool] | None = None) -> None:
        """Run ``t`` positions; every active row must see its window exactly."""
        q = self.draw(HEADS * self.repeat, t)
        keys, values = self.draw(HEADS, t), self.draw(HEADS, t)
        plan = self.cache.plan(len(self.past), t, active)
        packed = self.cache.update(keys, values, plan)
        found = attend(q, *packed, DIM**-0.5, plan.mask)
        new = np.stack([np.array(q), self.rounded(keys), self.rounded(values)])
        for row, past in enumerate(self.past):
            if active is not None and not active[row]:
                continue
            self.past[row] = whole = np.concatenate([past, new[:, row]], axis=2)
            for head in range(whole.shape[1]):
                one = whole[0, head], whole[1, head], whole[2, head]
                expected = window_attention(*one, self.context)[-t:]
                expected = mx.array(expected.astype(np.float32))
                assert_close(found[row, head], expected, 1e-5)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("repeat", [1, 2])
@pytest.mark.parametrize("t", [1, 2, 5])
def test_every_step_length_sees_the_exact_window_past_two_wraps(t, repeat, bits):
    streams = Streams(1, 6, bits, repeat, step=2)
    while streams.cache.offset < 12 + 3 * t:
        streams.advance(t)


def test_rows_start_pause_and_reset_on_their_own():
    streams = Streams(3, 5, 8, 2, step=1)
    rng = np.random.default_rng(1)
    for turn in range(30):
        streams.advance(1 + turn % 3, [bool(on) for on in rng.random(3) < 0.7])
        if turn % 7 == 6:
            row = turn % 3
            streams.cache.reset([row])
            streams.past[row] = streams.past[row][:, :, :0]
    assert streams.cache.offsets == [past.shape[2] for past in streams.past]


@pytest.mark.parametrize("positions", ["rope", "rope_concat", "none", "sin"])
@pytest.mark.parametrize("kv_repeat", [1, 2])
@pytest.mark.parametrize("lengths", [[1] * 22, [5, 1, 16]], ids=str)
def test_a_stack_gives_nearly_what_full_precision_gives(lengths, kv_repeat, positions):
    wide = {"d_model": 128, "positional_embedding": positions, "kv_repeat": kv_repeat}
    module = stack(**wide)
    x = wave(2, 22, 128)
    module.cfg.kv_bits = 8
    cache, parts, start = module.make_rot_cache(), [], 0
    for t in lengths:
        parts.append(module(x[:, start : start + t], cache))
        start += t
    module.cfg.kv_bits = None
    found, full = mx.concatenate(parts, axis=1), module(x)
    assert_close(found, full, 0.03)
    assert not mx.array_equal(found, full)


@pytest.mark.parametrize("dtype, share", [(mx.bfloat16, 0.53), (mx.float32, 0.28)])
def test_a_long_stream_holds_about_half_of_16_bits(dtype, share):
    held = []
    for cache in (QuantizedKVCache(128, 2, 100), RotatingKVCache(128, 2, 100)):
        for _ in range(150):
            x = mx.ones((1, 2, 1, 128), dtype)
            cache.update(x, x, cache.plan(1, 1))
        mx.eval(cache.stored)
        held.append(cache.nbytes)
    assert held[0] / held[1] == pytest.approx(share, abs=0.005)


def test_a_reset_ring_is_a_new_one():
    cache = QuantizedKVCache(64, 2, 8)
    x = mx.ones((1, 2, 3, 64))
    cache.update(x, x, cache.plan(1, 3))
    assert (cache.offset, cache.capacity) == (3, 12)
    cache.reset()
    assert (cache.offset, cache.nbytes, cache.state) == (0, 0, ())


def test_the_queries_scale_is_applied_once():
    cache = QuantizedKVCache(64, 1, 8)
    keys = mx.array(np.random.default_rng(0).standard_normal((1, 1, 3, 64)))
    packed = cache.update(keys, keys, cache.plan(1, 3))
    q = mx.ones((1, 1, 1, 64))
    found = attend(q, *packed, 0.5, None)
    assert_close(found, attend(q * 0.5, *packed, 1.0, None))
    assert number(mx.abs(found - attend(q, *packed, 1.0, None)).max()) > 1e-3


def test_bits_and_heads_that_cannot_be_packed_are_named():
    with pytest.raises(ValueError, match="cannot be kept in 3 bits: use 4 or 8"):
        QuantizedKVCache(64, 1, 8, bits=3)
    with pytest.raises(ValueError, match=r"heads 48 wide .* multiple of 32"):
        QuantizedKVCache(48, 1, 8)


@pytest.mark.parametrize("dim, heads, bits, group", [(128, 3, 4, 64), (96, 2, 8, 32)])
def test_reserved_storage_is_what_is_written_into_it(dim, heads, bits, group):
    cache = QuantizedKVCache(dim, heads, 8, bits)
    cache.reserve(2, mx.bfloat16)
    reserved = [(part.shape, part.dtype) for part in cache.stored]
    x = mx.ones((2, heads, 1, dim), mx.bfloat16)
    keys, values = cache.update(x, x, cache.plan(2, 1))
    assert [(part.shape, part.dtype) for part in cache.stored] == reserved
    assert keys.layout(dim) == values.layout(dim) == (group, bits)
    assert keys.words.shape == values.words.shape == (2, heads, 1, dim * bits // 32)
