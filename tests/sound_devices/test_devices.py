"""Commands that only speak, or only listen, on a real sound system."""

import numpy as np
import pytest

from moshi_mlx.live.devices import Player, hear
from tests.family import run
from tests.sound_devices.pulse import Pulse
from tests.sound_devices.tones import clear, loudest_hz, speaking, tone
from tests.speech import TTS, speaker


def test_sound_is_played_to_its_end(pulse: Pulse):
    ear = pulse.listen()
    player = Player()
    sound = np.concatenate([tone(24_000, 1.2), 2 * tone(24_000, 0.3)])
    for start in range(0, len(sound), 1920):
        player.play(sound[start : start + 1920])
    player.finish()
    heard = ear.stop()
    loud = np.flatnonzero(np.abs(heard) > 0.05)
    # The device itself loses blocks where the machine is too busy for it.
    assert len(loud) > 0.5 * len(sound)
    assert np.abs(heard[loud[:2000]]).max() < 0.4 < np.abs(heard[loud[-2000:]]).max()


def test_nothing_to_play_ends_at_once(pulse: Pulse):
    Player().finish()


def test_the_microphone_gives_blocks_at_the_models_rate(pulse: Pulse):
    heard, part = np.zeros(0, np.float32), None
    with hear() as blocks, speaking(pulse, tone(24_000, 1.0)):
        while part is None and len(heard) < 30 * 24_000:
            heard = np.concatenate([heard, next(blocks)])
            part = clear(heard, 24_000)
    assert part is not None
    assert loudest_hz(part, 24_000) == pytest.approx(440, abs=5)


def test_speech_is_played_as_it_is_made(pulse: Pulse, tmp_path):
    ear = pulse.listen()
    args = ("--model", TTS, "--voice-repo", TTS, "--voice", "voice_a.wav")
    assert run("speak", "hello there", *args, "--play", "--temp", 0) == 0
    heard = ear.stop()
    expected = speaker().say("hello there", "voice_a.wav").pcm
    loud = np.flatnonzero(np.abs(heard) > 0.02)
    assert loud[-1] - loud[0] > len(expected) / 2


def test_a_voices_recording_is_played(pulse: Pulse):
    ear = pulse.listen()
    args = ("--voice-repo", TTS, "--model", TTS)
    assert run("voices", "--play", "voice.wav", *args) == 0
    assert np.abs(ear.stop()).max() > 0.1
