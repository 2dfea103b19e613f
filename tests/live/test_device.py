"""Microphone and loudspeaker on a real sound system: PulseAudio with null sinks."""

import queue
import threading

import numpy as np
import pytest

from moshi_mlx.audio.device import Microphone, Speaker, find_device, list_devices
from moshi_mlx.errors import AudioError
from tests.live.pulse import Pulse

WAIT = 10  # seconds: only ever used up by a test that fails


def tone(rate: int, seconds: float, hz: float = 440.0) -> np.ndarray:
    t = np.arange(round(rate * seconds)) / rate
    return (0.3 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def loudest_hz(pcm: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm))))
    return float(np.argmax(spectrum) * rate / len(pcm))


def test_devices_are_listed_with_their_channels_and_the_default(pulse: Pulse):
    devices = list_devices()
    default = find_device("input")
    assert default in devices and default.default_input and default.inputs > 0
    assert default.host == "ALSA" and default.rate > 8000


def test_a_device_is_found_by_number_name_and_part_of_it(pulse: Pulse):
    headset = find_device("output", "headset")
    assert find_device("output", str(headset.number)) == headset
    assert find_device("output", "HeadS") == headset


def test_a_name_that_nothing_has_is_answered_with_what_there_is(pulse: Pulse):
    with pytest.raises(AudioError, match=r"no microphone 'tuba'.*'headset'"):
        find_device("input", "tuba")
    with pytest.raises(AudioError, match="no loudspeaker '99'"):
        find_device("output", 99)


def test_the_microphone_hears_what_is_said(pulse: Pulse):
    blocks: queue.Queue[np.ndarray] = queue.Queue()
    microphone = Microphone(find_device("input"), blocks.put, lambda: None)
    microphone.start()
    pulse.say(tone(24_000, 1.0))
    heard = np.concatenate([blocks.get(timeout=WAIT) for _ in range(25)])
    microphone.close()
    assert heard.dtype == np.float32 and heard.ndim == 1
    loud = heard[np.abs(heard) > 0.1]
    assert len(loud) > 0.3 * microphone.rate
    middle = np.flatnonzero(np.abs(heard) > 0.1)
    part = heard[middle[0] + 2000 : middle[0] + 2000 + microphone.rate // 4]
    assert loudest_hz(part, microphone.rate) == pytest.approx(440, abs=5)


def test_the_loudspeaker_plays_what_it_is_given(pulse: Pulse):
    ear = pulse.listen()
    done = threading.Event()
    played = 0

    def read(num_samples: int) -> np.ndarray:
        nonlocal played
        block = sound[played : played + num_samples]
        played += num_samples
        if played >= len(sound):
            done.set()
        return np.pad(block, (0, num_samples - len(block)))

    speaker = Speaker(find_device("output", "headset"), read, lambda: None)
    sound = tone(speaker.rate, 1.0, 660)
    speaker.start()
    assert done.wait(WAIT)
    threading.Event().wait(0.3)
    speaker.close()
    heard = ear.stop()
    start = np.flatnonzero(np.abs(heard) > 0.1)[0]
    part = heard[start + 1000 : start + 13_000]
    assert loudest_hz(part, 24_000) == pytest.approx(660, abs=5)
    assert np.abs(part).max() == pytest.approx(0.3, rel=0.1)


def test_a_closed_device_is_not_reported_as_lost_but_a_dead_one_is(pulse: Pulse):
    lost: queue.Queue[str] = queue.Queue()
    heard = threading.Event()
    first = Microphone(
        find_device("input"), lambda _: heard.set(), lambda: lost.put("first")
    )
    first.start()
    assert heard.wait(WAIT)
    first.close()
    second = Speaker(
        find_device("output"), lambda n: np.zeros(n, np.float32), lambda: lost.put("2")
    )
    second.start()
    pulse.kill()
    assert lost.get(timeout=WAIT) == "2"
    second.close()
    assert lost.empty()
    pulse.start()
