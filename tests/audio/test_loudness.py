"""Loudness against the values that ITU-R BS.1770 and EBU Tech 3341 give."""

import math

import numpy as np
import pytest

from moshi_mlx.audio.loudness import loudness, with_loudness
from moshi_mlx.errors import AudioError


def tone(level_db: float, seconds: float, rate: int, hz: float = 997.0) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return (10 ** (level_db / 20) * np.sin(2 * np.pi * hz * t)).astype(np.float32)


@pytest.mark.parametrize("rate", [24000, 48000])
def test_a_full_tone_of_997_hz_in_one_channel_has_minus_3_01_lufs(rate: int):
    assert loudness(tone(0, 2, rate), rate) == pytest.approx(-3.01, abs=0.02)
    assert loudness(tone(-20, 2, rate), rate) == pytest.approx(-23.01, abs=0.02)


def test_coefficients_at_48_khz_are_those_of_the_recommendation():
    from moshi_mlx.audio.loudness import _weighting

    shelf, high_pass = _weighting(48000)
    wanted = [1.53512485958697, -2.69169618940638, 1.19839281085285]
    assert np.allclose(shelf[0], wanted, atol=1e-8)
    assert np.allclose(shelf[1], [-1.69065929318241, 0.73248077421585], atol=1e-8)
    assert np.allclose(high_pass[0], [1.0, -2.0, 1.0])
    assert np.allclose(high_pass[1], [-1.99004745483398, 0.99007225036621], atol=1e-8)


def test_quiet_passages_do_not_count():
    """EBU Tech 3341, case 3: -36, -23 and -36 dBFS; the quiet parts are gated away."""
    rate = 24000
    parts = [tone(-36, 2, rate, 1000), tone(-23, 20, rate, 1000)]
    found = loudness(np.concatenate([*parts, parts[0]]), rate)
    alone = loudness(parts[1], rate)
    assert found == pytest.approx(alone, abs=0.1)
    silence = np.zeros(5 * rate, np.float32)
    assert loudness(np.concatenate([silence, parts[1]]), rate) == pytest.approx(
        alone, abs=0.1
    )


@pytest.mark.parametrize(
    "rate, gains, library",
    [
        (24000, (0.1, 0.5, 0.02, 0.3), -23.246),
        (24000, (0.01, 0.9, 0.001, 0.4), -17.591),
        (48000, (0.1, 0.5, 0.02, 0.3), -23.198),
        (48000, (0.01, 0.9, 0.001, 0.4), -17.537),
    ],
)
def test_loudness_is_pyloudnorm_s(rate: int, gains: tuple[float, ...], library: float):
    """pyloudnorm 0.2.0, which NVIDIA uses: its filters give 0.04 LU less everywhere."""
    rng = np.random.default_rng(7)
    parts = [gain * np.diff(rng.standard_normal(rate + 1)) / 10 for gain in gains]
    found = loudness(np.concatenate(parts).astype(np.float32), rate)
    assert found == pytest.approx(library + 0.0425, abs=0.002)


def test_low_tones_are_heard_less():
    low, high = (loudness(tone(-20, 1, 24000, hz), 24000) for hz in (40, 3000))
    assert low < -26 and high > -21


def test_sound_is_brought_to_the_wanted_loudness():
    rng = np.random.default_rng(0)
    noise = (0.01 * rng.standard_normal(24000)).astype(np.float32)
    changed = with_loudness(noise, 24000, -24.0)
    assert loudness(changed, 24000) == pytest.approx(-24.0, abs=0.01)


def test_silence_and_very_short_sounds_are_refused():
    silence = np.zeros(24000, np.float32)
    assert loudness(silence, 24000) == -math.inf
    with pytest.raises(AudioError, match="silent"):
        with_loudness(silence, 24000, -24)
    with pytest.raises(AudioError, match=r"0\.10 s of sound cannot be measured"):
        loudness(silence[:2400], 24000)
