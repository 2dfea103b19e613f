"""What holds of a conversation's sound without a device; see also sound_devices."""

import numpy as np

from moshi_mlx.audio import FRAME
from moshi_mlx.live.sound import Sound, SoundOptions


def test_a_sound_thread_that_hangs_holds_little_and_what_is_lost_is_counted():
    sound = Sound(SoundOptions(), lambda *_: None, print)  # never started
    counts = []
    for _ in range(100):
        sound.play(np.zeros(FRAME, np.float32), 0.0)
        counts.append(sound.lost_frames)
    kept = counts.count(0)
    assert 7 <= kept <= 25  # half a second of answers to two seconds
    assert counts[-1] == 100 - kept


def test_before_a_device_is_open_nothing_is_heard_played_or_said():
    sound = Sound(SoundOptions(), lambda *_: None, print)
    sound.hush()
    assert sound.paused and sound.echo_delay_s is None
    assert (sound.heard_level, sound.played_level, sound.silent_s) == (0, 0, 0)
    assert sound.ends.latency_s == 0
    sound.stop()
