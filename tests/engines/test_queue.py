"""Falling behind: what goes, what stays, and that it is counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moshi_mlx.audio import FRAME
from moshi_mlx.engines.queue import Dropped, FrameQueue, SilenceGate, frames_in

RNG = np.random.default_rng(0)


def silence() -> np.ndarray:
    return (1e-4 * RNG.standard_normal(FRAME)).astype(np.float32)


def speech(mark: float = 0.5) -> np.ndarray:
    frame = (0.1 * RNG.standard_normal(FRAME)).astype(np.float32)
    frame[0] = mark
    return frame


def drain(queue: FrameQueue) -> list[float]:
    return [float(queue.get().frame[0]) for _ in range(len(queue))]


def level(decibels: float) -> np.ndarray:
    return np.full(FRAME, 10 ** (decibels / 20), np.float32)


def test_below_55_decibels_nobody_speaks():
    for decibels, silent in ((-55.1, True), (-54.9, False)):
        gate = SilenceGate()
        for _ in range(20):
            assert gate(level(-90)), "a quiet room"
        assert gate(level(decibels)) is silent


def test_a_loud_room_is_silence_up_to_20_decibels_more():
    assert SilenceGate()(level(-35.1)) and not SilenceGate()(level(-34.9))


def test_dropped_frames_are_added_up():
    assert Dropped(3, 1).total == 4 and Dropped().total == 0


def test_a_queue_that_pushes_back_looks_for_no_silence():
    queue = FrameQueue(full="wait")
    queue.put(silence(), 0.0)
    assert not queue.get().silent


def test_a_short_hiccup_drops_nothing():
    queue = FrameQueue(limit_ms=480, calm_ms=160)
    for _ in range(2):
        queue.put(silence(), 0.0)
    assert (len(queue), queue.dropped.total) == (2, 0)
    assert queue.waiting_ms == 160


def test_silence_goes_before_speech_and_the_oldest_first():
    queue = FrameQueue(limit_ms=480, calm_ms=160)
    frames = [speech(0.1), silence(), speech(0.2), silence(), speech(0.3)]
    for frame in frames:
        queue.put(frame, 0.0)
    assert drain(queue) == pytest.approx([0.1, 0.2, 0.3])
    assert (queue.dropped.silent, queue.dropped.spoken) == (2, 0)


def test_speech_goes_only_at_the_limit():
    queue = FrameQueue(limit_ms=320, calm_ms=160)
    for i in range(6):
        queue.put(speech(0.1 * i), 0.0)
    assert drain(queue) == pytest.approx([0.2, 0.3, 0.4, 0.5])
    assert (queue.dropped.silent, queue.dropped.spoken) == (0, 2)


@given(st.lists(st.booleans(), max_size=60), st.integers(80, 800))
def test_never_more_waits_than_the_limit_and_every_frame_is_accounted(
    spoken: list[bool], limit_ms: int
):
    queue = FrameQueue(limit_ms=limit_ms)
    for is_speech in spoken:
        queue.put(speech() if is_speech else silence(), 0.0)
        assert queue.waiting_ms <= limit_ms
    assert len(queue) + queue.dropped.total == len(spoken)


def test_a_queue_that_pushes_back_drops_nothing():
    queue = FrameQueue(limit_ms=240, calm_ms=80, full="wait")
    for i in range(3):
        assert queue.has_room
        queue.put(silence() if i else speech(0.5), 0.0)
    assert not queue.has_room
    assert (len(queue), queue.dropped.total) == (3, 0)
    queue.get()
    assert queue.has_room


def test_clearing_counts_nothing_as_dropped():
    queue = FrameQueue()
    queue.put(speech(), 0.0)
    queue.clear()
    assert (len(queue), queue.dropped.total) == (0, 0)


def test_silence_is_what_lies_near_the_rooms_own_noise():
    gate = SilenceGate()
    noisy = [(4e-3 * RNG.standard_normal(FRAME)).astype(np.float32) for _ in range(20)]
    assert all([gate(frame) for frame in noisy][1:])  # a loud fan
    assert not gate(speech())
    assert gate(noisy[0])


def test_speech_without_a_pause_stays_speech():
    gate = SilenceGate()
    assert not any(gate(speech()) for _ in range(200))


@pytest.mark.parametrize("ms, frames", [(80, 1), (79, 1), (160, 2), (500, 6)])
def test_limits_are_whole_frames(ms: float, frames: int):
    assert frames_in(ms) == frames


def test_the_noise_of_a_room_is_that_of_the_last_ten_seconds():
    gate = SilenceGate()
    for _ in range(200):
        assert gate(level(-90)), "a quiet room"
    heard = [gate(level(-50)) for _ in range(125)]
    fan = 112  # frames, after which at most a tenth of 125 are from before it
    assert heard.index(True) == fan and all(heard[fan:])
