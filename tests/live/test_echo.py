"""Moshi's voice is taken out of the microphone, the user's is kept."""

import sys

import numpy as np
import pytest

from moshi_mlx.audio import SAMPLE_RATE
from moshi_mlx.errors import AudioError
from moshi_mlx.live.echo import DelayEstimator, EchoCanceller, Recent

RATE = SAMPLE_RATE
BLOCK = RATE // 50


def speech(seconds: float, seed: int) -> np.ndarray:
    """Noise in the shape of speech: a voice's spectrum, syllables, pauses."""
    rng = np.random.default_rng(seed)
    size = round(seconds * RATE)
    spectrum = np.fft.rfft(rng.standard_normal(size))
    hz = np.fft.rfftfreq(size, 1 / RATE)
    wave = np.fft.irfft(spectrum / (1 + (hz / 500) ** 2) * (hz > 100), size)
    t = np.arange(size) / RATE
    syllables = np.clip(np.sin(2 * np.pi * (2.2 + 0.37 * seed) * t), 0, None)
    wave *= syllables * (np.sin(2 * np.pi * 0.3 * t) > -0.7)
    return (0.2 * wave / np.abs(wave).max()).astype(np.float32)


def echo_of(far: np.ndarray, delay_s: float) -> np.ndarray:
    """What a microphone hears of ``far`` in a room, 6 dB lower."""
    rng = np.random.default_rng(5)
    t = np.arange(round(0.12 * RATE)) / RATE
    room = 0.05 * rng.standard_normal(len(t)) * np.exp(-t / 0.03)
    room[0] = 0.5
    wave = np.convolve(far, room)[: len(far)]
    late = np.concatenate([np.zeros(round(delay_s * RATE)), wave])[: len(far)]
    return (late + 1e-4 * rng.standard_normal(len(far))).astype(np.float32)


def run(canceller: EchoCanceller, near: np.ndarray, far: np.ndarray) -> np.ndarray:
    out = []
    for i in range(0, len(near), BLOCK):
        canceller.played(far[i : i + BLOCK])
        out.append(canceller.clean(near[i : i + BLOCK]))
    return np.concatenate(out)


def level_db(pcm: np.ndarray) -> float:
    return 10 * float(np.log10(np.mean(np.square(pcm)) + 1e-20))


@pytest.mark.parametrize("delay_s", [0.03, 0.15, 0.35, 0.7])
def test_an_echo_is_lowered_by_25_db_and_its_delay_is_measured(delay_s: float):
    far = speech(10, seed=1)
    near = echo_of(far, delay_s)
    canceller = EchoCanceller()
    clean = run(canceller, near, far)
    last = slice(7 * RATE, None)  # after it has got to know the room
    assert level_db(near[last]) - level_db(clean[last]) > 25
    assert canceller.delay_s == pytest.approx(delay_s, abs=0.002)
    assert canceller.slips == 0


def test_the_users_voice_is_kept_while_the_echo_goes():
    far, user = speech(12, seed=1), np.zeros(12 * RATE, np.float32)
    user[8 * RATE : 10 * RATE] = speech(2, seed=2)
    far[8 * RATE : 10 * RATE] = 0  # in turn
    clean = run(EchoCanceller(), echo_of(far, 0.06) + user, far)
    part = slice(round(8.3 * RATE), 10 * RATE)
    assert abs(level_db(clean[part]) - level_db(user[part])) < 1.5
    spectra = np.fft.rfft(clean[part]) * np.conj(np.fft.rfft(user[part]))
    norm = np.linalg.norm(clean[part]) * np.linalg.norm(user[part])
    assert np.fft.irfft(spectra).max() / norm > 0.9


def test_a_user_who_interrupts_stays_audible():
    far, user = speech(12, seed=1), np.zeros(12 * RATE, np.float32)
    user[8 * RATE : 10 * RATE] = speech(2, seed=2)
    clean = run(EchoCanceller(), echo_of(far, 0.06) + user, far)
    part = slice(round(8.3 * RATE), 10 * RATE)
    assert level_db(clean[part]) > level_db(user[part]) - 10


def test_blocks_may_come_in_bursts():
    far = speech(10, seed=1)
    near = echo_of(far, 0.08)
    rng = np.random.default_rng(3)
    canceller = EchoCanceller()
    out, told = [], 0
    for i in range(0, len(near), BLOCK):
        if rng.random() < 0.6 or i < 2 * BLOCK:  # else its callback comes later
            canceller.played(far[told : i + BLOCK])
            told = i + BLOCK
        out.append(canceller.clean(near[i : i + BLOCK]))
    clean = np.concatenate(out)
    last = slice(7 * RATE, None)
    assert level_db(near[last]) - level_db(clean[last]) > 15
    assert canceller.slips == 0


def test_without_an_echo_nothing_is_found_and_the_voice_passes():
    far, near = speech(10, seed=1), speech(10, seed=2)
    near[: 5 * RATE] *= 0.001  # headphones: the user listens at first
    canceller = EchoCanceller()
    clean = run(canceller, near, far)
    assert canceller.delay_s is None
    last = slice(6 * RATE, None)  # both at once: the worst that can happen
    assert level_db(clean[last]) > level_db(near[last]) - 9


def test_a_microphone_that_stood_still_is_recovered_from():
    far = speech(16, seed=1)
    near = echo_of(far, 0.08)
    canceller = EchoCanceller()
    run(canceller, near[: 4 * RATE], far[: 4 * RATE])
    canceller.played(far[4 * RATE : 6 * RATE])  # the microphone pauses for 2 s
    clean = run(canceller, near[6 * RATE :], far[6 * RATE :])
    assert canceller.slips == 1
    last = slice(7 * RATE, None)
    assert level_db(near[13 * RATE :]) - level_db(clean[last]) > 25


def test_a_loudspeaker_that_loses_time_is_recovered_from():
    far = speech(20, seed=1)
    canceller = EchoCanceller()
    near, told, out = np.zeros(0, np.float32), 0, []
    for i in range(0, len(far), BLOCK):
        if i // BLOCK in (200, 201, 202, 350):  # an underrun: it plays silence
            near = np.append(near, np.zeros(BLOCK, np.float32))
        else:
            canceller.played(far[told : told + BLOCK])
            near = np.append(near, far[told : told + BLOCK])
            told += BLOCK
        heard = 0.5 * near[max(0, len(near) - BLOCK - 2880) : -2880 or None]
        heard = np.pad(heard, (BLOCK - len(heard[-BLOCK:]), 0))[-BLOCK:]
        out.append((heard, canceller.clean(heard.astype(np.float32))))
    last = slice(len(out) - 5 * RATE // BLOCK, None)
    echo = np.concatenate([pair[0] for pair in out[last]])
    clean = np.concatenate([pair[1] for pair in out[last]])
    assert 1 <= canceller.slips <= 3
    assert level_db(echo) - level_db(clean) > 25


def test_noise_is_lowered_where_asked_and_the_length_stays():
    noise = 0.03 * np.random.default_rng(0).standard_normal(6 * RATE)
    noise = np.convolve(noise, np.ones(6) / 6, "same").astype("f4")  # a fan
    plain = run(EchoCanceller(echo=False), noise, noise)
    quiet = run(EchoCanceller(echo=False, noise_suppression=True), noise, noise)
    last = slice(3 * RATE, None)
    assert level_db(plain[last]) - level_db(noise[last]) == pytest.approx(0, abs=1)
    assert level_db(quiet[last]) < level_db(noise[last]) - 5
    assert len(quiet) == len(noise)


def test_a_quiet_voice_is_raised_where_asked():
    voice = 0.05 * speech(8, seed=2)
    raised = run(EchoCanceller(echo=False, gain_control=True), voice, voice)
    last = slice(5 * RATE, None)
    assert level_db(raised[last]) > level_db(voice[last]) + 6


@pytest.mark.parametrize("size", [100, 441, 1000])
def test_any_block_size_gives_all_samples_but_a_rest(size: int):
    near = speech(2, seed=2)
    canceller = EchoCanceller(echo=False)
    out = [canceller.clean(near[i : i + size]) for i in range(0, len(near), size)]
    assert len(near) - sum(map(len, out)) < RATE // 100


def test_a_delay_is_believed_only_when_two_looks_agree():
    far = speech(8, seed=1)
    near = echo_of(far, 0.2)
    estimator = DelayEstimator()
    changes = []
    for i in range(0, len(far), BLOCK):
        if estimator.look(near[i : i + BLOCK], far[i : i + BLOCK]):
            changes.append(i / RATE)
    assert len(changes) == 1 and changes[0] > 1.9
    assert estimator.delay_s == pytest.approx(0.2, abs=0.002)


def test_a_microphone_that_hears_nothing_has_no_delay():
    far = speech(6, seed=1)
    canceller = EchoCanceller()
    clean = run(canceller, np.zeros_like(far), far)
    assert canceller.delay_s is None
    assert level_db(clean) < -70


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pywebrtc_audio", None)
    with pytest.raises(AudioError, match="pip install pywebrtc-audio"):
        EchoCanceller()


@pytest.mark.parametrize("size", [1, 7, 50, 99, 100, 230])
def test_the_recent_past_is_what_was_pushed_last(size: int):
    stream, recent = np.arange(1, 901, dtype=np.float32), Recent(100)
    assert not recent.last(100).any()
    for i in range(0, len(stream), size):
        recent.push(stream[i : i + size])
        told = np.concatenate([np.zeros(100, np.float32), stream[: i + size]])
        np.testing.assert_array_equal(recent.last(100), told[-100:])
        np.testing.assert_array_equal(recent.last(30, before=70), told[-100:-70])
