"""A program that is asked to end keeps what Ctrl-C keeps, in every command."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from moshi_mlx.audio.files import read, write_wav
from tests.family import listening, translating
from tests.listening import noise
from tests.questions import QUESTIONS
from tests.speech import TTS

ENDINGS = [signal.SIGTERM, signal.SIGHUP]
SESSION = "moshi_mlx.engines.duplex.session", "DuplexSession", "step"


def ended(
    after: tuple[str, str, str], number: int, *args: Any, calls: int = 25
) -> "subprocess.CompletedProcess[str]":
    """Run a command in a process that is sent a signal after some calls of a method."""
    module, owner, method = after
    code = f"""
        import importlib, os, sys
        from moshi_mlx.cli.main import main
        owner = getattr(importlib.import_module({module!r}), {owner!r})
        method, count = owner.{method}, 0

        def counted(self, *args, **options):
            global count
            count += 1
            if count == {calls}:
                os.kill(os.getpid(), {int(number)})
                os.kill(os.getpid(), {int(number)})  # a terminal may send it twice
            return method(self, *args, **options)

        owner.{method} = counted
        sys.exit(main({[str(arg) for arg in args]!r}))
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )


@pytest.mark.parametrize("number", ENDINGS)
def test_respond_keeps_what_was_answered(number: int, tmp_path):
    reply, both = tmp_path / "reply.wav", tmp_path / "both.wav"
    args = ("--model", "demo", QUESTIONS[2].path, reply, "--recording", both, "--json")
    done = ended(SESSION, number, "respond", *args)
    assert done.returncode == -number, done.stderr
    assert json.loads(done.stdout)["frames"] in range(10, 26)
    assert 0 < read(reply).shape[1] <= 25 * 1920
    assert len(read(both, mono=False)) == 2


@pytest.mark.parametrize("number", ENDINGS)
def test_transcribe_keeps_what_was_heard(number: int, tmp_path):
    write_wav(tmp_path / "a.wav", noise(8.0))
    model, texts = listening(tmp_path / "stt"), tmp_path / "texts"
    args = (tmp_path / "a.wav", "--model", model, "-f", "json", "--out-folder", texts)
    rows = "moshi_mlx.engines.stt.rows", "Rows", "step"
    done = ended(rows, number, "transcribe", *args, calls=40)
    assert done.returncode == -number, done.stderr
    assert json.loads((texts / "a.json").read_text())


def test_speak_keeps_what_was_said(tmp_path):
    out, words = tmp_path / "a.wav", tmp_path / "a.srt"
    run = "moshi_mlx.engines.tts.run", "SpeechRun", "step"
    args = ("hello there how are you today", "--model", TTS, "--voice-repo", TTS)
    files = ("--voice", "voice_a.wav", "-o", out, "--words", words)
    done = ended(run, signal.SIGTERM, "speak", *args, *files, "--seed", 1, calls=45)
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert read(out).size and "-->" in words.read_text()


def test_translate_keeps_what_was_translated(tmp_path):
    model, out = translating(tmp_path / "hibiki"), tmp_path / "out.wav"
    write_wav(tmp_path / "a.wav", noise(4.0))
    args = (tmp_path / "a.wav", out, "--model", model, "--words", tmp_path / "w.json")
    done = ended(SESSION, signal.SIGHUP, "translate", *args)
    assert done.returncode == -signal.SIGHUP, done.stderr
    assert read(out).size and (tmp_path / "w.json").exists()


def in_terminal(code: str) -> int:
    """Run code in a terminal that is closed as soon as it says something."""
    child, terminal = os.forkpty()
    if not child:
        os.execv(sys.executable, [sys.executable, "-c", textwrap.dedent(code)])
    said = b""
    while b"ready" not in said:
        said += os.read(terminal, 100)
    os.close(terminal)
    return os.waitpid(child, 0)[1]


def test_a_closed_terminal_does_not_keep_files_from_being_written(tmp_path):
    status = in_terminal(f"""
        import sys, time
        from pathlib import Path
        from moshi_mlx.cli.main import guard

        def run():
            try:
                print("ready", flush=True)
                time.sleep(60)
            except KeyboardInterrupt:
                print("this goes nowhere", flush=True)
                print("this too", file=sys.stderr, flush=True)
                Path({str(tmp_path / "kept")!r}).write_text("whole")
                raise

        guard(run)
    """)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGHUP
    assert (tmp_path / "kept").read_text() == "whole"


def guarded(before: str, body: str) -> "subprocess.CompletedProcess[str]":
    code = f"""
import os, signal, sys
from moshi_mlx.cli.main import guard
{before}
def run():
{textwrap.indent(textwrap.dedent(body), "    ")}
sys.exit(guard(run))
"""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300
    )


def test_a_signal_that_is_ignored_stays_ignored():
    ignore = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"  # as nohup does
    done = guarded(ignore, "os.kill(os.getpid(), signal.SIGHUP); print('goes on')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "goes on\n", "")


def test_outside_the_main_thread_nothing_is_installed():
    body = """
        import threading
        from moshi_mlx.cli.signals import as_ctrl_c

        def use():
            with as_ctrl_c() as ending:
                print(ending.signal)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    """
    assert guarded("", body).stdout == "0\n"


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, -15)])
def test_a_server_ends_though_a_model_is_being_loaded(number: int, code: int):
    program = f"""
        import os, sys, threading, time
        from moshi_mlx.cli.main import guard
        from moshi_mlx.cli.signals import at_once

        def run():
            loading = threading.Thread(target=time.sleep, args=[600])
            loading.start()
            with at_once(loading.is_alive):
                os.kill(os.getpid(), {int(number)})
                time.sleep(600)

        sys.exit(guard(run))
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    assert subprocess.run(command, timeout=300).returncode == code
