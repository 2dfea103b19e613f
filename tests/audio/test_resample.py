"""Another sample rate is the same sound, at the same time, in any blocks."""

import numpy as np
import pytest

from moshi_mlx.audio import Resampler, resample

RATES = [(48000, 24000), (44100, 24000), (8000, 24000), (24000, 48000), (24000, 16000)]


def sine(hz: float, rate: int, seconds: float) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)[None]


@pytest.mark.parametrize("source, target", RATES)
@pytest.mark.parametrize("share", [0.01, 0.2, 0.4])
def test_a_tone_keeps_its_pitch_place_and_loudness(source, target, share):
    hz = share * min(source, target)
    out = resample(sine(hz, source, 0.5), source, target)
    want = sine(hz, target, 0.5)
    assert out.shape == want.shape and out.dtype == np.float32
    middle = slice(target // 50, -target // 50)  # the ends lack a neighbour
    assert np.abs(out - want)[:, middle].max() < 1e-4


@pytest.mark.parametrize("source, target", [(48000, 24000), (44100, 24000)])
def test_what_the_new_rate_cannot_hold_is_gone(source, target):
    out = resample(sine(0.53 * target, source, 0.5), source, target)
    assert np.abs(out[:, target // 50 : -target // 50]).max() < 1e-4


@pytest.mark.parametrize("source, target", [*RATES, (22051, 24000), (4001, 24000)])
@pytest.mark.parametrize("block", [1, 37, 480, 5000])
def test_blocks_give_what_the_whole_signal_gives(source, target, block):
    x = np.random.default_rng(0).standard_normal((2, 5000)).astype(np.float32)
    stream = Resampler(source, target, channels=2)
    parts = [stream.push(x[:, i : i + block]) for i in range(0, 5000, block)]
    parts.append(stream.flush())
    whole = resample(x, source, target)
    streamed = np.concatenate(parts, axis=1)
    assert streamed.shape == whole.shape
    assert np.abs(streamed - whole).max() < 1e-5


@pytest.mark.parametrize("source, target", RATES)
def test_a_stream_lags_by_no_more_than_it_says(source, target):
    stream, x = Resampler(source, target), sine(100, source, 0.2)
    given = 0
    for i in range(0, x.shape[1], 160):
        given += stream.push(x[:, i : i + 160]).shape[1]
        taken = min(i + 160, x.shape[1])
        assert given >= (taken - stream.latency) * target / source
    assert stream.latency < 0.011 * source


def test_a_stream_can_be_used_again_after_its_end():
    stream, x = Resampler(48000, 24000), sine(300, 48000, 0.1)
    first = np.concatenate([stream.push(x), stream.flush()], axis=1)
    again = np.concatenate([stream.push(x), stream.flush()], axis=1)
    assert np.array_equal(first, again)


def test_silence_of_no_length_stays_so():
    assert resample(np.zeros((1, 0), np.float32), 48000, 24000).shape == (1, 0)


def test_one_channel_stays_one():
    x = sine(300, 48000, 0.1)
    assert np.array_equal(resample(x[0], 48000, 24000), resample(x, 48000, 24000)[0])


@pytest.mark.parametrize("source", [4001, 4010, 22051, 383_999])
def test_odd_rates_need_no_large_filter(source):
    """A stranger who names one would hold up a server that makes it."""
    stream = Resampler(source, 24000)
    out = stream.push(np.ones((1, source // 5), np.float32))
    assert out.shape[1] == pytest.approx(4800, abs=stream.latency * 24000 / source)
    np.testing.assert_allclose(out[0, 1000:-1000], 1.0, atol=1e-6)
    assert stream._matrix.size < 2**19
