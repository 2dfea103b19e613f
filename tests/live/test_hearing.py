"""From a microphone's blocks to frames: whole, at once, and one wake-up for each."""

import numpy as np
import pytest

from moshi_mlx.audio import FRAME, SAMPLE_RATE
from moshi_mlx.audio.device import BLOCK_MS
from moshi_mlx.live.echo import EchoCanceller
from moshi_mlx.live.hearing import Hearing
from tests.live.test_echo import echo_of, level_db, speech

RATE = 48_000
IN, OUT = (RATE * BLOCK_MS[kind] // 1000 for kind in ("input", "output"))


def blocks(rate: int, seconds: float = 2.0) -> np.ndarray:
    """A tone of 440 Hz in a microphone's blocks."""
    size = rate * BLOCK_MS["input"] // 1000
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    return wave.astype(np.float32)[: len(wave) // size * size].reshape(-1, size)


@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("clean", [False, True])
def test_each_frame_but_the_first_comes_with_its_last_block(rate: int, clean: bool):
    canceller = EchoCanceller(echo=False, noise_suppression=True) if clean else None
    hearing = Hearing(rate, RATE, canceller)
    came = []
    for block in blocks(rate):
        pcm = hearing.collect(block)
        came.append(0 if pcm is None else len(hearing.frames(pcm)))
    per_frame = 80 // BLOCK_MS["input"]
    ends = [i % per_frame == per_frame - 1 for i in range(len(came))]
    assert came == [int(end and i >= per_frame) for i, end in enumerate(ends)]


def test_no_sample_is_lost_between_frames():
    hearing = Hearing(RATE, RATE, None)
    heard = []
    for block in blocks(RATE):
        if (pcm := hearing.collect(block)) is not None:
            heard += hearing.frames(pcm)
    pcm = np.concatenate(heard)
    phase = 2 * np.pi * 440 * np.arange(len(pcm)) / SAMPLE_RATE
    basis = np.stack([np.sin(phase), np.cos(phase)], axis=1)
    rest = pcm - basis @ np.linalg.lstsq(basis, pcm, rcond=None)[0]
    assert len(pcm) == (2 * SAMPLE_RATE // FRAME - 1) * FRAME
    assert np.abs(rest).max() < 1e-4
    assert hearing.level == pytest.approx(0.3 / np.sqrt(2), rel=0.01)


def test_what_was_played_meanwhile_is_taken_out():
    far = speech(10, seed=1)
    near, far = (np.repeat(pcm, 2) for pcm in (echo_of(far, 0.08), far))
    hearing = Hearing(RATE, RATE, EchoCanceller())
    heard = []
    for i in range(0, len(near), IN):
        for k in range(i, i + IN, OUT):
            hearing.played(far[k : k + OUT])
        if (pcm := hearing.collect(near[i : i + IN])) is not None:
            heard += hearing.frames(pcm)
    clean, end = np.concatenate(heard), 3 * SAMPLE_RATE
    assert level_db(near[-2 * end :]) - level_db(clean[-end:]) > 25
    assert hearing.canceller is not None
    assert hearing.canceller.delay_s == pytest.approx(0.08, abs=0.003)


def test_a_microphone_that_gives_only_zeros_is_told_from_a_quiet_one():
    hearing = Hearing(RATE, RATE, None)
    for _ in range(5):
        hearing.frames(np.zeros(2 * IN, np.float32))
    assert hearing.silent_s == pytest.approx(0.4)
    hearing.frames(np.full(2 * IN, 1e-6, np.float32))
    hearing.frames(np.zeros(2 * IN, np.float32))
    assert hearing.silent_s == 0
