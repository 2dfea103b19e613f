"""Whatever ends a command, and whenever: what is on the disk is valid."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kills import COMMANDS

ROOT = Path(__file__).parents[2]


def killed(*arguments: str) -> list[dict]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kills", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.skipif(sys.platform == "win32", reason="not on Windows: it cannot fork")
def test_checkpoints_and_texts_survive_a_kill():
    commands = ("quantize", "convert", "transcribe", "finetune")
    told = killed(*commands, "--times", "3", "--signals", "KILL")
    assert [row["command"] for row in told] == list(commands)
    assert sum(row["caught"] for row in told) > 0


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_survives_every_signal_at_any_moment(command: str):
    told = killed(command, "--times", "3")  # `python -m tests.kills` takes 20 of each
    assert [row["runs"] for row in told] == [3, 3, 3]
    assert sum(row["caught"] for row in told) > 0, told
