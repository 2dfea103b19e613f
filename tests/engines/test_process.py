"""Programs end well, whichever thread used a model, and copies of them are told."""

import subprocess
import sys

import pytest

BEGIN = """
import asyncio, os, sys, threading
import numpy as np, mlx.core as mx
from moshi_mlx.engines.owner import model_thread
from moshi_mlx.errors import MoshiError

def compute():
    return float(mx.random.normal((64, 64)).sum().item())

def use():
    return model_thread().run(compute)
"""
ENDINGS = {
    "main thread": "use()",
    "worker thread": "t = threading.Thread(target=use); t.start(); t.join()",
    "worker first": "t = threading.Thread(target=use); t.start(); t.join(); use()",
    "asyncio": "asyncio.run(asyncio.to_thread(use))",
    "busy worker": """
def forever():
    try:
        while True:
            use()
    except MoshiError:
        pass
threading.Thread(target=forever, daemon=True).start(); use()
""",
    "unfinished job": """
use()
next(model_thread().iterate(lambda: iter(compute, None)))
""",
    "closed": "use(); model_thread().close(); use()",
    "sys.exit in a call": """
try:
    model_thread().run(lambda: sys.exit(3))
except SystemExit as end:
    assert end.code == 3
use()
""",
}
FORK = """
use()
child = os.fork()
if child == 0:
    try:
        use()
    except MoshiError as error:
        print(error, flush=True)
        sys.exit(0)
    sys.exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
use()
"""
FORK_BEFORE = """
child = os.fork()
if child == 0:
    use()
    sys.exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
use()
"""
SPAWN = """
import multiprocessing
if __name__ == "__main__":
    use()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(type(pool.apply(use)).__name__)
    use()
"""


def run(tmp_path, code: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "program.py"
    path.write_text(BEGIN + code)
    return subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("name", ENDINGS)
def test_a_program_ends_without_a_word(tmp_path, name):
    done = run(tmp_path, ENDINGS[name])
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


def test_a_fork_after_use_gets_a_sentence_and_its_parent_goes_on(tmp_path):
    done = run(tmp_path, FORK)
    assert done.returncode == 0, done.stderr
    sentence, code = done.stdout.splitlines()
    assert "spawn" in sentence and code == "0"


@pytest.mark.parametrize(
    "code, said", [(FORK_BEFORE, "0"), (SPAWN, "float")], ids=["fork first", "spawn"]
)
def test_a_fork_before_use_and_a_spawned_process_compute(tmp_path, code, said):
    done = run(tmp_path, code)
    assert (done.returncode, done.stdout.strip()) == (0, said), done.stderr
