"""A conversation's sound on a real sound system, with a friend in Moshi's place."""

import queue
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from moshi_mlx import audio
from moshi_mlx.audio.framing import rms
from moshi_mlx.errors import AudioError
from moshi_mlx.live.sound import Sound, SoundOptions
from tests.sound_devices.pulse import BUFFER_MS, Pulse, wait_for

WAIT = 30  # seconds: only ever used up by a test that fails
ANSWER = "moshi_mlx/demo/questions/joke.wav"  # as Moshi's voice
QUESTION = "moshi_mlx/demo/questions/planet.wav"  # as the user's


class Room:
    """A running ``Sound``: keeps the frames it hears, plays ``voice`` in return."""

    def __init__(self, options: SoundOptions):
        self.frames: list[np.ndarray] = []
        self.notices: queue.Queue[str] = queue.Queue()
        self.voice: list[np.ndarray] = []
        self._came = threading.Condition()
        self.sound = Sound(options, self._on_frame, self.notices.put)

    def _on_frame(self, frame: np.ndarray, at: float) -> None:
        reply = self.voice.pop(0) if self.voice else np.zeros_like(frame)
        self.sound.play(reply, at)
        with self._came:
            self.frames.append(frame)
            self._came.notify_all()

    def wait_frames(self, more: int) -> np.ndarray:
        """The next frames in one piece ``[S]``."""
        with self._came:
            start = len(self.frames)
            there = self._came.wait_for(
                lambda: len(self.frames) >= start + more, more * 0.08 + WAIT
            )
        assert there, "no frames come from the microphone"
        return np.concatenate(self.frames[start : start + more])

    def hear(self, seconds: float = 1.8) -> np.ndarray:
        """What is said next, from its first loud frame on."""
        first = self.wait_frames(1)
        while rms(first) < 0.002:
            first = self.wait_frames(1)
        return np.concatenate([first, self.wait_frames(round(seconds / 0.08))])

    def settle(self) -> None:
        """Wait until frames come steadily."""
        self.wait_frames(5)


@pytest.fixture
def rooms(pulse: Pulse) -> Iterator[type]:
    """Makes rooms that are closed in the end."""
    opened: list[Sound] = []

    class Opened(Room):
        def __init__(self, options: SoundOptions | None = None):
            options = options or SoundOptions()
            super().__init__(replace(options, buffer_ms=BUFFER_MS))
            self.sound.start()
            opened.append(self.sound)
            self.settle()

    yield Opened
    for sound in opened:
        sound.stop()


def frames_of(path: str) -> list[np.ndarray]:
    """Frames in which somebody speaks."""
    return [frame for frame in audio.frames(path) if rms(frame) > 0.005]


def resembles(one: np.ndarray, other: np.ndarray) -> float:
    """How well ``other`` is found in ``one``, 0 to 1."""
    size = len(one) + len(other)
    cross = np.fft.rfft(one, size) * np.conj(np.fft.rfft(other, size))
    peak = np.fft.irfft(cross).max()
    return float(peak / (np.linalg.norm(one) * np.linalg.norm(other)))


def test_the_voice_comes_in_frames(pulse: Pulse, rooms):
    room = rooms(SoundOptions(echo=False))
    question = np.concatenate(frames_of(QUESTION))
    match = 0.0
    for _ in range(5):  # a busy machine crackles
        pulse.say(question, wait=False)
        match = max(match, resembles(room.hear(), question))
        if match > 0.9:
            break
    assert match > 0.9
    assert room.sound.lost_frames == 0


def test_the_echo_goes_and_the_users_voice_stays(pulse: Pulse, rooms):
    module = pulse.echo("100%")
    try:
        room = rooms(SoundOptions(echo=False))
        room.voice = frames_of(ANSWER)
        room.wait_frames(5)
        echo = rms(room.wait_frames(15))
        faint = echo / 10 ** (25 / 20)
        room.sound.stop()
        room = rooms()
        rest, tries = 1.0, 0
        while not (room.sound.echo_delay_s and rest < faint) and tries < 30:
            room.voice += frames_of(ANSWER)
            rest, tries = rms(room.wait_frames(20)), tries + 1
        room.voice.clear()
        room.wait_frames(15)
        question = audio.read(QUESTION)[0]
        pulse.say(question, wait=False)
        heard = room.hear()
    finally:
        pulse.control("unload-module", module)
    assert echo > 0.01
    assert room.sound.echo_delay_s and rest < faint
    energy = np.square(heard).sum() / np.square(question).sum()
    assert abs(10 * np.log10(energy)) < 3


def test_half_duplex_does_not_listen_while_moshi_speaks(pulse: Pulse, rooms):
    module = pulse.echo("100%")
    try:
        room = rooms(SoundOptions(echo=False, half_duplex=True))
        room.voice = frames_of(ANSWER)
        heard = room.wait_frames(len(room.voice) + 8)
    finally:
        pulse.control("unload-module", module)
    assert rms(heard) < 1e-3


def test_mute_and_volume(pulse: Pulse, rooms):
    room = rooms(SoundOptions(echo=False))
    room.sound.muted = True
    pulse.say(audio.read(QUESTION)[0], wait=False)
    assert not room.wait_frames(20).any()
    room.sound.muted, room.sound.volume = False, 0.5
    ear = pulse.listen()
    loud, wanted, tries = 0.0, 0.5 * np.abs(audio.read(ANSWER)).max(), 0
    while loud < 0.9 * wanted and tries < 5:  # a busy machine may lose the loudest
        room.voice, tries = frames_of(ANSWER), tries + 1
        wait_for(lambda: not room.voice)
        wait_for(ear.hears_an_end)
        loud = np.abs(ear.heard()).max()
    assert loud == pytest.approx(wanted, rel=0.15)


def test_a_dead_sound_system_is_waited_for(pulse: Pulse, rooms):
    room = rooms()
    pulse.kill()
    assert "looking for another" in room.notices.get(timeout=WAIT)
    assert room.sound.paused
    pulse.start()
    assert "continuing with" in room.notices.get(timeout=WAIT)
    room.settle()
    pulse.say(audio.read(QUESTION)[0], wait=False)
    assert rms(room.hear()) > 0.005


def test_a_sound_system_that_hangs_is_noticed(
    pulse: Pulse, rooms, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("moshi_mlx.live.ends._STALLED_S", 2.0)
    monkeypatch.setattr("moshi_mlx.audio.device._CLOSE_S", 1.0)
    room = rooms()
    pulse.daemon.send_signal(signal.SIGSTOP)
    try:
        assert "has stopped" in room.notices.get(timeout=WAIT)
    finally:
        pulse.daemon.send_signal(signal.SIGCONT)
    assert "continuing with" in room.notices.get(timeout=2 * WAIT)
    room.settle()


def test_a_new_default_device_is_followed_unless_one_was_named(
    pulse: Pulse, rooms, monkeypatch: pytest.MonkeyPatch
):
    defaults = [(1, 2)]  # as Core Audio says; on Linux the system moves streams itself
    monkeypatch.setattr("moshi_mlx.live.ends.system_defaults", lambda: defaults[0])
    monkeypatch.setattr("moshi_mlx.live.ends._LOOK_S", 0.1)
    named = rooms(SoundOptions(speaker="headset"))
    defaults[0] = (1, 3)
    named.wait_frames(5)
    assert named.notices.empty()
    named.sound.stop()
    room = rooms()
    defaults[0] = (1, 4)
    notice = "the system has chosen another speaker: looking for another ..."
    assert room.notices.get(timeout=WAIT) == notice
    assert "continuing with" in room.notices.get(timeout=WAIT)
    room.settle()
    assert room.notices.empty()


def test_a_loudspeaker_that_is_pulled_out_ends_nothing(pulse: Pulse, rooms):
    modules = pulse.control("list", "short", "modules").stdout.splitlines()
    [speaker] = [line.split()[0] for line in modules if "sink_name=speaker" in line]
    room = rooms()
    room.voice = frames_of(ANSWER)
    room.wait_frames(8)  # in mid-sentence
    try:
        pulse.control("unload-module", speaker)
        room.wait_frames(25)
        assert not room.sound.paused
        assert room.sound.jitter is not None and room.sound.jitter.waiting_s < 0.33
    finally:
        room.sound.stop()
        pulse.kill()
        pulse.start()


def test_an_error_of_the_sound_thread_reaches_the_conversation(pulse: Pulse):
    def fail(frame: np.ndarray, at: float) -> None:
        raise ValueError("a frame that nobody can stand")

    errors: queue.Queue[Exception] = queue.Queue()
    sound = Sound(SoundOptions(echo=False), fail, print, errors.put)
    sound.start()
    assert "nobody can stand" in str(errors.get(timeout=WAIT))
    sound.stop()


def test_a_device_that_is_not_there_is_said_before_anything_runs(pulse: Pulse):
    sound = Sound(SoundOptions(microphone="tuba"), print, print)  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="no microphone 'tuba'"):
        sound.start()
    sound.stop()
