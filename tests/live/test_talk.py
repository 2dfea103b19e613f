"""The person's side: keys, the terminal's state, and what C libraries print."""

import os
import pty
import queue
import sys
import termios

import pytest

from moshi_mlx.live.keys import END, keys
from moshi_mlx.live.talk import quiet_c_libraries

WAIT = 120  # seconds: only ever used up by a test that fails


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch):
    """The other end of a terminal on stdin."""
    person, terminal = pty.openpty()
    with open(terminal, closefd=True) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield person
    os.close(person)


def test_keys_come_one_by_one_without_enter(typing: int):
    before = termios.tcgetattr(sys.stdin)
    pressed: queue.Queue[str] = queue.Queue()
    with keys(pressed.put):
        os.write(typing, b"m")
        assert pressed.get(timeout=WAIT) == "m"
        os.write(typing, b"\x1b[A")
        assert pressed.get(timeout=WAIT) == "+"
        os.write(typing, b"rq")
        assert [pressed.get(timeout=WAIT) for _ in range(2)] == ["r", "q"]
        os.write(typing, b"\x04")  # ends the reader, as a closed terminal does
    assert termios.tcgetattr(sys.stdin) == before


def test_an_end_of_input_that_is_no_terminal_reads_nothing(
    monkeypatch: pytest.MonkeyPatch,
):
    pressed: queue.Queue[str] = queue.Queue()
    with open(os.devnull) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with keys(pressed.put):
            pass
    assert pressed.empty() and END == "end"


def test_c_libraries_are_silent_and_python_is_not(capfd: pytest.CaptureFixture[str]):
    with quiet_c_libraries():
        os.write(2, b"ALSA lib: something nobody needs\n")
        print("an error worth reading", file=sys.stderr)
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "an error worth reading\nafter\n"
