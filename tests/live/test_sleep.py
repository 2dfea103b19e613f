"""A machine that sleeps: its devices stop without a word, and others come after it."""

import queue
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from moshi_mlx.audio import FRAME
from moshi_mlx.errors import AudioError
from moshi_mlx.live import ends, sound
from moshi_mlx.live.sound import Sound, SoundOptions

RATE, BLOCK = 24000, 480
WAIT_S = 120  # only ever used up by a test that fails


class Machine:
    """Devices that can be put to sleep, and a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.awake = True
        self.open: dict[str, Callable] = {}

    def device(self, kind: str) -> Callable:
        def make(found: object, callback: Callable, *_: object) -> SimpleNamespace:
            if not self.awake:
                raise AudioError("there is no device")
            return SimpleNamespace(
                rate=RATE,
                latency_s=0.0,
                device=found,
                start=lambda: self.open.update({kind: callback}),
                close=lambda: self.open.pop(kind, None),
            )

        return make

    def hear(self, frames: int) -> None:
        for _ in range(frames * FRAME // BLOCK):
            self.open["Microphone"](np.full(BLOCK, 0.1, np.float32))
            self.open["Speaker"](BLOCK)


@pytest.fixture
def machine(monkeypatch) -> Machine:
    machine = Machine()
    for kind in ("Microphone", "Speaker"):
        monkeypatch.setattr(ends, kind, machine.device(kind))
    name = SimpleNamespace(name="built-in")
    monkeypatch.setattr(ends, "find_device", lambda *_: name)
    monkeypatch.setattr(ends, "refresh", lambda: None)
    monkeypatch.setattr(ends, "system_defaults", lambda: None)
    monkeypatch.setattr(ends.time, "perf_counter", lambda: machine.now)
    monkeypatch.setattr(sound, "_RETRY_S", 0.01)
    return machine


def test_a_conversation_goes_on_after_sleep(machine: Machine):
    heard: queue.Queue[np.ndarray] = queue.Queue()
    said: queue.Queue[str] = queue.Queue()
    talk = Sound(SoundOptions(echo=False), lambda frame, _: heard.put(frame), said.put)
    talk.start()
    try:
        machine.hear(3)
        heard.get(timeout=WAIT_S)
        machine.awake = False
        machine.now += 3.9
        assert said.empty() and not talk.paused, "a short gap is no sleep"
        machine.now += 0.2  # what a Mac's clock shows is time awake only
        assert said.get(timeout=WAIT_S).startswith("the microphone has stopped: look")
        assert talk.paused
        machine.awake = True
        assert said.get(timeout=WAIT_S) == "continuing with 'built-in' and 'built-in'."
        while not heard.empty():
            heard.get_nowait()
        machine.hear(3)
        assert heard.get(timeout=WAIT_S).shape == (FRAME,)
    finally:
        talk.stop()
