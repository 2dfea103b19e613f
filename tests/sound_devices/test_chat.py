"""The whole: `moshi-mlx chat` on a sound card, spoken to and listened to."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx import audio
from moshi_mlx.engines.duplex.engine import Moshi
from moshi_mlx.engines.owner import model_thread
from moshi_mlx.live.conversation import Conversation
from moshi_mlx.live.sound import SoundOptions
from tests.cli.conftest import check
from tests.recogniser import hear
from tests.sound_devices.pulse import BUFFER_MS, Pulse, wait_for

WAIT = 60  # seconds: only ever used up by a test that fails
# Understood wherever in a frame it begins, unlike the joke (8 of 8 starts, 3 of 8).
QUESTION = Path(moshi_mlx.__file__).parent / "demo/questions/planet.wav"
ANSWER = "Jupiter is the biggest planet."
PATIENCE = 20  # seconds in which an answer begins, or the question was not understood


class Chat:
    """A running `moshi-mlx chat --model demo`."""

    def __init__(self, pulse: Pulse, folder: Path, *options: str):
        self.pulse = pulse
        self.folder = folder
        self._err = folder / "stderr"
        command = [sys.executable, "-m", "moshi_mlx", "chat", "--model", "demo"]
        sampling = ["--temp", "0", "--seed", "0", "--record", str(folder / "talks")]
        sampling += ["--device-buffer", str(BUFFER_MS)]
        with self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*command, *sampling, "--json", *options],
                env={**os.environ, **pulse.env},
                stdout=subprocess.PIPE,
                stderr=err,
                stdin=subprocess.DEVNULL,
            )

    @property
    def said(self) -> str:
        return self._err.read_text()

    def wait_for(self, words: str, times: int = 1) -> None:
        """Wait until Moshi has said so."""
        until = time.monotonic() + WAIT
        while self.said.count(words) < times:
            assert time.monotonic() < until, f"no {words!r} in {self.said!r}"
            assert self.process.poll() is None, self.said
            time.sleep(0.1)

    def end(self, number: int) -> str:
        """End it by a signal; returns what it printed."""
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=WAIT)
        return out.decode()

    def file(self, suffix: str) -> Path:
        [path] = (self.folder / "talks").glob(f"*{suffix}")
        return path


@pytest.fixture
def chat(pulse: Pulse, tmp_path: Path) -> Iterator[Callable[..., Chat]]:
    started: list[Chat] = []

    def start(*options: str) -> Chat:
        started.append(Chat(pulse, tmp_path, *options))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


def resembles(one: np.ndarray, other: np.ndarray) -> float:
    """How well ``other`` is found in ``one``, 0 to 1."""
    size = len(one) + len(other)
    cross = np.fft.rfft(one, size) * np.conj(np.fft.rfft(other, size))
    peak = np.fft.irfft(cross).max()
    return float(peak / (np.linalg.norm(one) * np.linalg.norm(other)))


def ask(pulse: Pulse, talk: Chat) -> str | None:
    """Ask; returns which answer came out of the loudspeaker, or None if none did."""
    ear, before = pulse.listen(), talk.said.count(ANSWER)
    pulse.say(audio.read(QUESTION)[0])
    until = time.monotonic() + PATIENCE
    while talk.said.count(ANSWER) == before:
        if time.monotonic() > until:  # sound was lost on the way: Moshi said another
            return None
        assert talk.process.poll() is None, talk.said
        time.sleep(0.1)
    wait_for(ear.hears_an_end)
    return hear(ear.stop())


def test_a_question_is_answered_through_the_loudspeaker(
    pulse: Pulse, chat: Callable[..., Chat]
):
    talk = chat("--trace", str(pulse.folder / "trace.json"))
    ear = pulse.listen()
    talk.wait_for("something.")  # Moshi greets who says nothing
    wait_for(ear.hears_an_end)
    heard, asked = None, 0
    while heard != ANSWER and asked < 6:  # gaps, on a busy machine
        asked += 1
        heard = ask(pulse, talk)
    figures = json.loads(talk.end(signal.SIGINT))
    check(figures)
    assert talk.process.returncode == 128 + signal.SIGINT
    print(f"live figures: {figures}")
    assert heard == ANSWER
    assert ANSWER in figures["text"]
    words = json.loads(talk.file(".json").read_text())["words"]
    assert " ".join(word["text"] for word in words) == figures["text"]
    assert "Jupiter" in talk.file(".srt").read_text()
    user, moshi = audio.read(talk.file(".wav"), mono=False)
    assert user.shape == moshi.shape
    assert resembles(user, audio.read(QUESTION)[0]) > 0.2
    assert "<svg" in talk.file(".html").read_text()
    trace = json.loads((pulse.folder / "trace.json").read_text())["traceEvents"]
    assert {"encode", "step", "decode", "wait"} <= {event["name"] for event in trace}
    dropped = figures["dropped"]["silent"] + figures["dropped"]["spoken"]
    recorded = len(user) // 1920  # a frame or two come while it ends
    assert 0 <= recorded - figures["frames"] - dropped <= 3


def test_a_closed_terminal_ends_it_cleanly(chat: Callable[..., Chat]):
    talk = chat()
    talk.wait_for("Hello")
    figures = json.loads(talk.end(signal.SIGHUP))
    assert talk.process.returncode == 128 + signal.SIGHUP
    assert figures["frames"] > 0
    assert audio.read(talk.file(".wav")).shape[1] >= 1920
    words = json.loads(talk.file(".json").read_text())["words"]
    assert words[0]["text"].startswith("Hello")


def test_a_kill_loses_no_frame(chat: Callable[..., Chat]):
    talk = chat()
    talk.wait_for("Hello")
    talk.end(signal.SIGKILL)
    assert audio.read(talk.file(".wav")).shape[1] >= 20 * 1920
    assert json.loads(talk.file(".json").read_text())["model"] == "demo"


class Slow:
    """A session on a machine that needs 104 ms for a frame of 80."""

    def __init__(self, moshi: Moshi):
        self._session = moshi.session(0, temp=0, temp_text=0, first="silence")

    def step(self, frame: np.ndarray):
        until = time.perf_counter() + 0.104
        reply = self._session.step(frame)
        time.sleep(max(0.0, until - time.perf_counter()))
        return reply


def test_a_machine_that_is_too_slow_stays_close_and_counts(pulse: Pulse):
    def load() -> Moshi:
        moshi = moshi_mlx.load("demo")
        moshi.warmup()
        return moshi

    thread = model_thread()
    moshi = thread.run(load)
    worst = 0.0
    ended: list[Exception] = []
    talk = Conversation(
        *(thread, lambda: Slow(moshi), SoundOptions(buffer_ms=BUFFER_MS)),
        *(lambda _: None, print, ended.append),
    )
    talk.start()
    watched = threading.Event()
    while not ended and talk.snapshot().frames < 50:
        watched.wait(0.1)
        worst = max(worst, talk.line.waiting_ms)
    seen = talk.snapshot()
    talk.stop()
    assert not ended
    assert seen.dropped.total > 0.1 * seen.frames
    assert worst <= 480
    # All that waits is heard first, and the frame itself.
    assert seen.lag_p95 < (480 / 80 + 2) * max(104, seen.step_p95)
