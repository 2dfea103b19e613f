"""A forked copy says why it cannot compute; a missing TMPDIR keeps nothing from it."""

import subprocess
import sys

import pytest

LOAD = """
import os, sys
import numpy as np
import moshi_mlx
from moshi_mlx.errors import MoshiError

def step(session):
    return session.step(np.zeros(1920, np.float32)).text_token

def load():
    return moshi_mlx.load("demo").session(0)
"""
CHILD = """
session = load()
step(session)
child = os.fork()
if child == 0:
    for use in (lambda: step(session), load):
        try:
            use()
        except MoshiError as error:
            print(error, flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
step(session)
"""


def run(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    import os

    return subprocess.run(
        [sys.executable, "-c", LOAD + code],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )


def test_a_fork_after_use_gets_a_sentence_and_its_parent_goes_on():
    done = run(CHILD)
    assert done.returncode == 0, done.stderr
    *sentences, code = done.stdout.splitlines()
    assert code == "0" and len(sentences) == 2
    assert all("get_context('spawn')" in sentence for sentence in sentences)


def test_a_tmpdir_that_is_gone_is_told_and_another_used(tmp_path):
    done = run("print(step(load()))", TMPDIR=str(tmp_path / "gone"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("TMPDIR names no folder") == 1


@pytest.mark.parametrize("home", ["/dev/null", "/no/such/home"])
def test_a_home_that_cannot_be_written_keeps_nothing_from_working(home):
    done = run("print(step(load()))", HOME=home, XDG_CACHE_HOME="")
    assert (done.returncode, done.stderr) == (0, "")
