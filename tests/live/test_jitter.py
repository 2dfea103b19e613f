"""Playback stays close, survives late frames, and never clicks."""

import numpy as np
import pytest

from moshi_mlx.audio import FRAME, SAMPLE_RATE
from moshi_mlx.live.jitter import (
    JitterBuffer,
    conceal,
    cut_period,
    cut_silence,
    period_of,
)

RATE = SAMPLE_RATE
BLOCK = RATE // 100  # 10 ms
STEP = FRAME // BLOCK  # reads per frame


def voice(num_samples: int, hz: float = 125.0, rate: int = RATE) -> np.ndarray:
    """A voice-like wave: harmonics of ``hz``, no louder than 0.5."""
    t = np.arange(num_samples) / rate
    wave = sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 6))
    return (0.2 * np.asarray(wave)).astype(np.float32)


class Player:
    """A device that takes a block every 10 ms, and a model with a given lag."""

    def __init__(self) -> None:
        self.buffer = JitterBuffer(RATE, BLOCK / RATE)
        self.heard: list[np.ndarray] = []
        self.waits: list[float] = []

    def run(self, sound: np.ndarray, lags_s: list[float]) -> np.ndarray:
        """Play ``sound``, each frame ``lag`` late; returns what the device got."""
        frames = sound.reshape(-1, FRAME)
        due = [(i * FRAME / RATE + lag, i) for i, lag in enumerate(lags_s)]
        blocks = STEP * len(frames) + 60
        for tick in range(blocks):
            while due and due[0][0] <= tick * BLOCK / RATE:
                _, i = due.pop(0)
                self.buffer.write(frames[i], lags_s[i])
                self.waits.append(self.buffer.waiting_s)
            self.heard.append(self.buffer.read(BLOCK))
        return np.concatenate(self.heard)


def steepest(pcm: np.ndarray) -> float:
    return float(np.abs(np.diff(pcm)).max())


def test_steady_frames_come_out_unchanged_and_close():
    sound = voice(60 * FRAME)
    player = Player()
    heard = player.run(sound, [0.03] * 60)
    assert (player.buffer.shortened, player.buffer.gaps) == (0, 1)  # the gap: the end
    delay = np.flatnonzero(heard)[0] - 1  # the wave's own first sample is 0
    edge = round(0.004 * RATE)
    np.testing.assert_array_equal(heard[delay:][edge : len(sound)], sound[edge:])
    assert delay / RATE <= 0.03 + 0.02 + BLOCK / RATE


def test_the_target_follows_the_measured_jitter():
    rng = np.random.default_rng(0)
    calm, wild = Player(), Player()
    sound = voice(150 * FRAME)
    calm.run(sound, [0.03] * 150)
    wild.run(sound, list(0.03 + 0.05 * rng.random(150)))
    assert calm.buffer.jitter_s < 0.002
    assert 0.035 < wild.buffer.jitter_s < 0.05
    assert wild.buffer.target_s < 0.08 + BLOCK / RATE


def test_most_late_frames_are_in_time_once_the_jitter_is_known():
    rng = np.random.default_rng(1)
    player = Player()
    lags = list(0.03 + 0.05 * rng.random(200))
    player.run(voice(200 * FRAME), lags)
    assert player.buffer.gaps <= 12


def test_a_late_frame_is_covered_without_a_click():
    sound = voice(40 * FRAME)
    lags = [0.03] * 20 + [0.105] + [0.03] * 19
    player = Player()
    heard = player.run(sound, lags)
    assert player.buffer.gaps == 2  # the late one, and the end
    assert steepest(heard) < 2.2 * steepest(sound)
    late = heard[round(20 * FRAME + 0.06 * RATE) :][: round(0.03 * RATE)]
    assert np.abs(late).max() > 0.02  # filled, not silent


def test_a_hiccup_costs_delay_for_a_while_only():
    frames = 120
    lags = [0.03] * 30 + [0.25, 0.17, 0.09] + [0.03] * (frames - 33)
    player = Player()
    heard = player.run(voice(frames * FRAME), lags)
    assert player.buffer.shortened > 0.08 * RATE
    assert player.waits[-1] < 0.08 + 0.075 + 0.03
    assert max(player.waits) <= 0.321
    assert steepest(heard) < 2.2 * steepest(voice(FRAME))


def test_silence_is_shortened_before_speech():
    lags = [0.03] * 10 + [0.19, 0.11] + [0.03] * 48
    player = Player()
    sound = np.concatenate([voice(12 * FRAME), np.zeros(48 * FRAME, np.float32)])
    heard = player.run(sound, lags)
    loud = np.count_nonzero(np.abs(heard) > 1e-3)
    assert loud > 0.99 * np.count_nonzero(np.abs(sound) > 1e-3) - 0.1 * RATE
    assert player.buffer.shortened > 0


def test_it_never_holds_more_than_four_frames():
    buffer = JitterBuffer(RATE, 0.01)
    for _ in range(20):
        buffer.write(voice(FRAME), 0.03)
    assert buffer.waiting_s <= 4 * FRAME / RATE
    assert buffer.shortened > 0


def test_clearing_stops_the_sound_within_milliseconds():
    buffer = JitterBuffer(RATE, 0.01)
    for _ in range(3):
        buffer.write(voice(FRAME), 0.03)
    before = buffer.read(BLOCK)
    buffer.clear()
    after = buffer.read(FRAME)
    assert np.abs(before).max() >= 0
    assert not after[round(0.005 * RATE) :].any()
    assert buffer.gaps == 0


def test_silence_that_runs_out_is_no_gap():
    buffer = JitterBuffer(RATE, 0.01)
    buffer.write(np.zeros(FRAME, np.float32), 0.03)
    buffer.read(3 * FRAME)
    assert buffer.gaps == 0 and buffer.missing > 0


@pytest.mark.parametrize("rate", [24_000, 44_100, 48_000])
@pytest.mark.parametrize("hz", [100.0, 160.0, 250.0])
def test_the_period_of_a_voice_is_found(rate: int, hz: float):
    period = period_of(voice(rate // 20, hz, rate), rate)
    cycles = period * hz / rate
    assert abs(cycles - round(cycles)) < 0.03
    assert cycles > 0.9


def test_taking_out_a_period_makes_no_click_and_keeps_the_pitch():
    sound = voice(FRAME)
    cut = cut_period(sound, RATE)
    removed = len(sound) - len(cut)
    assert 0.0025 * RATE <= removed <= 0.0125 * RATE
    assert steepest(cut) < 1.05 * steepest(sound)
    np.testing.assert_array_equal(cut[-500:], sound[-500:])


def test_what_covers_a_gap_goes_on_where_the_sound_ended():
    sound = voice(FRAME)
    tail = conceal(sound, RATE)
    assert steepest(np.concatenate([sound, tail])) < 1.1 * steepest(sound)
    assert abs(tail[-1]) < 1e-3


@pytest.mark.parametrize("peak", [0.0, 1e-6, 2.9e-3])
def test_a_gap_after_silence_is_not_covered(peak: float):
    assert len(conceal(peak * voice(FRAME) / np.abs(voice(FRAME)).max(), RATE)) == 0


def test_what_is_shorter_than_a_period_is_left_alone():
    short = voice(FRAME)[:100]
    assert cut_period(short, RATE) is short


def test_only_quiet_edges_are_cut_as_silence():
    quiet = np.zeros(800, np.float32)
    loud = voice(800)
    front = cut_silence(np.concatenate([quiet, loud]), 500, 96)
    back = cut_silence(np.concatenate([loud, quiet]), 500, 96)
    assert front is not None and back is not None
    np.testing.assert_array_equal(front[-800:], loud)
    np.testing.assert_array_equal(back[:800], loud)
    assert len(front) == len(back) == 1100
    assert cut_silence(loud, 500, 96) is None
    silent = cut_silence(quiet, 500, 96)
    assert silent is not None and len(silent) == 300
