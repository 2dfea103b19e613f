"""Microphone and loudspeaker on a real sound system: PulseAudio with null sinks."""

import queue
import threading

import numpy as np
import pytest

from moshi_mlx.audio.device import Microphone, Speaker, find_device, list_devices
from moshi_mlx.errors import AudioError
from tests.sound_devices.pulse import BUFFER_MS, Pulse, wait_for
from tests.sound_devices.tones import clear, loudest_hz, speaking, tone

WAIT = 30  # seconds: only ever used up by a test that fails
BUFFER_S = BUFFER_MS / 1000


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
    microphone = Microphone(
        *(find_device("input"), blocks.put, lambda: None), buffer_s=BUFFER_S
    )
    microphone.start()
    with speaking(pulse, tone(24_000, 1.0)):
        heard = [blocks.get(timeout=WAIT)]
        while clear(np.concatenate(heard), microphone.rate) is None:
            assert len(heard) < 25 * WAIT
            heard.append(blocks.get(timeout=WAIT))
    microphone.close()
    assert heard[0].dtype == np.float32 and heard[0].ndim == 1
    part = clear(np.concatenate(heard), microphone.rate)
    assert part is not None
    assert loudest_hz(part, microphone.rate) == pytest.approx(440, abs=5)


def test_the_loudspeaker_plays_what_it_is_given(pulse: Pulse):
    ear = pulse.listen()
    played = 0

    def read(num_samples: int) -> np.ndarray:
        nonlocal played
        start, played = played, played + num_samples
        return np.take(sound, np.arange(start, played), mode="wrap")

    speaker = Speaker(
        *(find_device("output", "headset"), read, lambda: None), buffer_s=BUFFER_S
    )
    sound = tone(speaker.rate, 1.0, 660)  # whole periods: goes round without a seam
    speaker.start()
    wait_for(lambda: clear(ear.heard(), 24_000) is not None)
    speaker.close()
    part = clear(ear.stop(), 24_000)
    assert part is not None
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
