"""A loudspeaker as a command uses it: all is played, unless the user has had enough."""

from collections.abc import Callable, Sequence
from threading import Thread

import numpy as np
import pytest

from moshi_mlx.audio.device import Device
from moshi_mlx.errors import AudioError
from moshi_mlx.live import devices
from moshi_mlx.live.devices import DEAD_MICROPHONE, Player, hear, lacking


def device(inputs: int, outputs: int) -> Device:
    return Device(0, "a", "ALSA", inputs, outputs, 48000, False, False)


def test_what_is_lacking_is_named_with_what_to_do():
    assert lacking([device(1, 0), device(0, 2)]) is None
    for devices_, words in [
        ([], "no microphone and no loudspeaker was found"),
        ([device(0, 2)], "no microphone was found"),
        ([device(1, 0)], "no loudspeaker was found"),
    ]:
        sentence = lacking(devices_)
        assert sentence is not None and sentence.startswith(words)
        assert "plug one in" in sentence and "moshi-mlx serve" in sentence


class Speaker:
    """A loudspeaker that plays as fast as it can."""

    rate, latency_s = 24000, 0.0

    def __init__(self, _device: object, read: Callable, *_: object):
        self._read = read
        self.heard: list[np.ndarray] = []
        self.closed = False
        self._thread = Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self.closed:
            self.heard.append(self._read(480))

    def close(self) -> None:
        self.closed = True
        if self._thread.ident is not None:
            self._thread.join()


@pytest.fixture
def speakers(monkeypatch) -> list[Speaker]:
    made: list[Speaker] = []

    def make(*args):
        made.append(Speaker(*args))
        return made[-1]

    monkeypatch.setattr(devices, "find_device", lambda *_: None)
    monkeypatch.setattr(devices, "Speaker", make)
    return made


def test_all_is_played_before_the_device_goes_back(speakers):
    pcm = np.linspace(-1, 1, 24000, dtype=np.float32)
    with Player(ahead_s=10.0) as player:
        for start in range(0, len(pcm), 1920):
            player.play(pcm[start : start + 1920])
    heard = np.concatenate(speakers[0].heard)
    first = int(np.flatnonzero(heard)[0])
    np.testing.assert_array_equal(heard[first : first + len(pcm)], pcm)
    assert speakers[0].closed


def test_ctrl_c_stops_at_once(speakers):
    with pytest.raises(KeyboardInterrupt), Player(ahead_s=10.0) as player:
        player.play(np.ones(24000, np.float32))
        raise KeyboardInterrupt
    assert speakers[0].closed and not speakers[0].heard


class Microphone:
    """A microphone that gives blocks of 0.5 s as they are listed."""

    rate = 24000

    levels: Sequence[float] = ()

    def __init__(self, _device: object, heard: Callable, lost: Callable):
        self._heard, self._lost = heard, lost

    def start(self) -> None:
        for level in self.levels:
            self._heard(np.full(12000, level, np.float32))
        self._lost()

    def close(self) -> None: ...


@pytest.mark.parametrize(
    "levels, told", [([0] * 20, 1), ([0] * 6, 0), ([0, 0.1, *[0] * 20], 0)]
)
def test_a_microphone_that_macos_denies_is_named_once(
    monkeypatch, caplog, levels: list[float], told: int
):
    monkeypatch.setattr(devices, "find_device", lambda *_: None)
    monkeypatch.setattr(devices, "Microphone", Microphone)
    monkeypatch.setattr(Microphone, "levels", levels)
    with hear() as blocks, pytest.raises(AudioError, match="is gone"):
        for _ in blocks:
            pass
    assert [record.message for record in caplog.records] == [DEAD_MICROPHONE] * told
