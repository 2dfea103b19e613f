"""A real `moshi-mlx serve`, and programs that are run against it."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from moshi_mlx.serve.gate.tls import new_certificate
from tests.serve.clients import environments
from tests.serve.clients.listening import MODEL, QUESTION, TEXT

_RUN_S = 600  # at most, for machines that do other things


@dataclass
class Server:
    """A server that is up."""

    url: str
    wyoming: int  # its port
    certificate: Path | None = None

    @property
    def ws(self) -> str:
        return self.url.replace("http", "ws", 1)


def _serving(folder: Path, *options: object) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        wyoming = free.getsockname()[1]
    command = [sys.executable, "-m", "moshi_mlx", "serve", "--model", MODEL]
    command += ["--preload", "--no-browser", "--port", 0, *options]
    command += ["--wyoming", "--wyoming-port", wyoming]
    words = [str(word) for word in command]
    log = folder / "log"
    with (
        log.open("w") as errors,
        subprocess.Popen(words, stdout=-1, stderr=errors, text=True) as process,
    ):
        try:
            for line in process.stdout or ():
                if found := re.search(r"Moshi is at (\S+)", line):
                    url = found[1].replace("localhost", "127.0.0.1")
                    yield Server(url, wyoming)
                    return
            pytest.fail(f"the server did not start: {log.read_text()}")
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    yield from _serving(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="session")
def tls_server(tmp_path_factory) -> Iterator[Server]:
    from cryptography.hazmat.primitives.serialization import Encoding

    folder = tmp_path_factory.mktemp("tls")
    certificate, key = new_certificate(["localhost", "127.0.0.1"])
    (folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key)
    for server in _serving(folder, "--ssl", folder):
        server.certificate = folder / "cert.pem"
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a program is given: a sound and a text; what it hears, it puts there."""
    shutil.copy(QUESTION, tmp_path / "sound.wav")
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def output_of(*command: object, env: dict[str, str] | None = None) -> str:
    """What a program prints; it must end well."""
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=_RUN_S,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def python_program(environment: str, name: str, *args: object) -> Any:
    """What a program of programs/ reports."""
    program = environments.PROGRAMS / f"{name}.py"
    return _report(output_of(environments.python(environment), program, *args))


def node_program(name: str, *args: object, env: dict[str, str] | None = None) -> Any:
    program = environments.node_modules() / f"{name}.mjs"
    return _report(output_of(environments.node(), program, *args, env=env))


def _report(printed: str) -> Any:
    return json.loads(printed.strip().splitlines()[-1])


# The outcome, program by program, as the last thing that is printed

_outcomes: dict[str, dict[str, str]] = {}  # of a program, by its tests
_WORST = ("failed", "skipped", "passed")


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> None:
    marker = item.get_closest_marker("clients")
    if marker is None or not marker.args:
        return
    [program] = marker.args
    tests = _outcomes.setdefault(program, {})
    if call.when == "setup":  # once more, perhaps
        tests[item.name] = "passed"
    if call.excinfo is not None:
        skipped = call.excinfo.errisinstance(pytest.skip.Exception)
        tests[item.name] = "skipped" if skipped else "failed"


def pytest_terminal_summary(terminalreporter) -> None:
    if _outcomes:
        told = {
            program: min(tests.values(), key=_WORST.index)
            for program, tests in _outcomes.items()
        }
        terminalreporter.write_line(json.dumps(told, indent=1))
