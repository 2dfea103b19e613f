"""``python -m tests.kills``: end commands at random moments, and look at the disk.

Each command runs in a fork of a process that has the libraries loaded already. It is
ended by a signal at a random moment; whatever lies on the disk must be valid. Then it
runs again, undisturbed: nothing may be left of the run before.
"""

import argparse
import importlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import wave
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from moshi_mlx.audio.files import write_wav
from moshi_mlx.cli.main import INTERRUPTED, main
from moshi_mlx.utils.tensor_files import read_header
from tests.adapted import SIZES
from tests.checkpoint.folders import write_with_codec
from tests.conftest import hear_signals
from tests.family import listening
from tests.finetune.made import listed, recording
from tests.listening import noise
from tests.questions import QUESTIONS
from tests.speech import TTS

SIGNALS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM, "HUP": signal.SIGHUP}
WAIT_S = 120  # only ever used up by a run that hangs
FRAMES = 40  # of a conversation
Command = Callable[[Path, Path], Sequence[object]]  # (inputs, outputs) -> arguments


def respond(_: Path, out: Path) -> Sequence[object]:
    files = (out / "reply.wav", "--recording", out / "both.wav")
    question = ("--model", "demo", QUESTIONS[2].path, "--tail", 1)
    return ("respond", *question, *files, "--report", out / "talk.html")


def transcribe(inputs: Path, out: Path) -> Sequence[object]:
    forms = ("-f", "json", "-f", "srt", "-f", "txt", "--out-folder", out)
    return ("transcribe", inputs / "a.wav", "--model", inputs / "stt", *forms)


def speak(inputs: Path, out: Path) -> Sequence[object]:
    voice = ("--model", TTS, "--voice-repo", TTS, "--out-folder", out)
    return ("speak", inputs / "scripts.jsonl", *voice, "--seed", 1)


def quantize(inputs: Path, out: Path) -> Sequence[object]:
    return ("quantize", inputs / "source", out / "q4", "--overwrite")


def convert(inputs: Path, out: Path) -> Sequence[object]:
    return ("convert", inputs / "source", out / "mlx", "--overwrite")


def finetune(inputs: Path, out: Path) -> Sequence[object]:
    given = ("--model", inputs / "moshi", "--data", inputs / "data", "--resume")
    short = ("--window", 1.6, "--iters", 6, "--save-every", 2, "--rank", 2)
    return ("finetune", *given, "--adapter-path", out / "run", *short)


def chat(_: Path, out: Path) -> Sequence[object]:
    import moshi_mlx.cli.chat
    import moshi_mlx.live.sound

    moshi_mlx.cli.chat.check_devices = lambda _: None
    moshi_mlx.live.sound.Ends = FakeEnds  # type: ignore[misc,assignment]
    talk = ("--model", "demo", "--no-aec", "--codec", "native")
    return ("chat", *talk, "--steps", FRAMES, "--record", out)


def serve(_: Path, out: Path) -> Sequence[object]:
    from tests.serve.kill_client import free_port, talk

    port = free_port()
    threading.Thread(target=talk, args=(port, FRAMES), daemon=True).start()
    where = ("--host", "127.0.0.1", "--port", port, "--no-browser")
    return ("serve", "--model", "demo", *where, "--record", out)


COMMANDS: dict[str, Command] = {
    f.__name__: f
    for f in (respond, transcribe, speak, chat, serve, quantize, convert, finetune)
}
RECORDING = {"chat", "serve"}  # each run writes files of another name


class FakeEnds:
    """Sound devices that are in a hurry: blocks of 20 ms every 2 ms."""

    latency_s = 0.0
    microphone = speaker = SimpleNamespace(rate=24000, latency_s=0.0, hiccups=0)

    def __init__(self, *_: Any, hear: Any, read: Any, on_open: Any, on_lost: Any):
        self._hear, self._read, self._on_open = hear, read, on_open
        del on_lost

    def open(self) -> None:
        self._on_open(24000, 24000)
        threading.Thread(target=self._run, daemon=True).start()

    reopen = open

    def close(self) -> None: ...

    def trouble(self) -> None: ...

    def _run(self) -> None:
        block = 0.1 * np.random.default_rng(0).standard_normal(480).astype(np.float32)
        while True:
            self._hear(block)
            self._read(480)
            time.sleep(0.002)


def make_inputs(folder: Path) -> None:
    write_with_codec(folder / "source")
    listening(folder / "stt")
    write_with_codec(folder / "moshi", **SIZES)
    lines = [recording(folder / "data", f"r{n}", 1.0, [], seed=n) for n in range(3)]
    listed(folder / "data" / "train.jsonl", *lines[:2])
    listed(folder / "data" / "valid.jsonl", lines[2])
    write_wav(folder / "a.wav", noise(4.0))
    scripts = [
        {"id": name, "turns": ["hello there how are you"], "voices": ["voice_a.wav"]}
        for name in ("one", "two", "three")
    ]
    (folder / "scripts.jsonl").write_text("\n".join(map(json.dumps, scripts)))


def started(command: Command, inputs: Path, out: Path) -> int:
    """Run a command in a fork; returns its process number."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        silent = os.open(os.devnull, os.O_RDWR)
        said = os.open(inputs / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number, target in ((0, silent), (1, silent), (2, said)):
            os.dup2(target, number)
        code = main([str(arg) for arg in command(inputs, out)])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(child: int, after_s: float, number: int) -> tuple[int, float]:
    """Wait for a process, and send it a signal in time; (wait status, seconds)."""
    began, sent = time.monotonic(), number == 0
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        passed_s = time.monotonic() - began
        if pid:
            return status, passed_s
        if not sent and passed_s >= after_s:
            os.kill(child, number)
            sent = True
        if passed_s > WAIT_S:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise AssertionError(f"it does not end after signal {number}")
        time.sleep(0.002)


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def unnumbered(names: set[str]) -> Counter[str]:
    """Names without the steps of checkpoints: a training that was asked to stop saves
    one there, and keeps as many as it always does."""
    return Counter(re.sub(r"(checkpoint)_\d+", r"\1", name) for name in names)


def is_part(name: str) -> bool:
    return any(part.startswith(".") for part in Path(name).parts)


def check_file(path: Path) -> None:
    """Raises: AssertionError or a reader's own error for a file that is not whole."""
    if path.suffix == ".wav":
        with wave.open(str(path), "rb") as sound:
            promised = sound.getnframes() * sound.getnchannels() * 2
        assert promised <= path.stat().st_size - 44, f"{path} promises too much"
    elif path.suffix == ".json":
        json.loads(path.read_text("utf-8"))
    elif path.suffix == ".safetensors":
        read_header(path)
    elif path.suffix == ".html":
        assert path.read_text("utf-8").rstrip().endswith("</html>"), path
    elif path.suffix in (".txt", ".srt"):
        path.read_text("utf-8")


def check(out: Path) -> None:
    """All files are valid, and a checkpoint that has a config.json is complete."""
    for name in files(out):
        if not is_part(name):
            check_file(out / name)
    for config in out.rglob("config.json"):
        if not is_part(str(config.relative_to(out))):
            said = json.loads(config.read_text())
            named = [said[k] for k in said if k.endswith("_name") and k != "lm_gen"]
            for name in named:
                assert (config.parent / name).is_file(), f"{config} names {name}"


def finish(command: Command, inputs: Path, out: Path) -> float:
    """Run a command to its end; returns how long it took."""
    status, seconds = ended(started(command, inputs, out), 0.0, 0)
    code = os.waitstatus_to_exitcode(status)
    fine = INTERRUPTED if command is serve else 0
    assert code == fine, f"{code}: {(inputs / 'said').read_text()}"
    check(out)
    return seconds


def kill(name: str, number: int, times: int, chance: random.Random) -> dict[str, Any]:
    """End a command so many times; returns how often it was still running."""
    command, caught = COMMANDS[name], 0
    with tempfile.TemporaryDirectory(prefix="moshi-kills-") as temporary:
        inputs, out = Path(temporary) / "in", Path(temporary) / "out"
        inputs.mkdir()
        make(inputs)
        out.mkdir()
        whole_s = finish(command, inputs, out)
        expected = files(out)
        for turn in range(times):
            if turn % 2:  # one begins with nothing, the next replaces what is there
                shutil.rmtree(out)
                out.mkdir()
            child = started(command, inputs, out)
            status, _ = ended(child, chance.uniform(0, whole_s), number)
            caught += os.WIFSIGNALED(status) and os.WTERMSIG(status) == number
            check(out)
            finish(command, inputs, out)
            left = files(out)
            assert not any(map(is_part, left)), left
            if name not in RECORDING:
                assert unnumbered(left) == unnumbered(expected), left ^ expected
    return {"command": name, "signal": signal.Signals(number).name, "runs": times} | {
        "caught": caught
    }


def make(inputs: Path) -> None:
    """The inputs, made in a fork: what computes must not fork afterwards."""
    child = os.fork()
    if not child:
        code = 1
        try:
            make_inputs(inputs)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def run(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commands", nargs="*", help=f"of {', '.join(COMMANDS)}")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signals", default="KILL,TERM,HUP")
    given = parser.parse_args(arguments)
    hear_signals()
    for name in ("moshi_mlx.engines.load", "moshi_mlx.engines.tts", "rich.progress"):
        importlib.import_module(name)
    for name in given.commands or COMMANDS:
        for number in given.signals.split(","):
            chance = random.Random(f"{name} {number} {given.seed}")
            told = kill(name, SIGNALS[number], given.times, chance)
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    sys.exit(run())
