"""The scripts do on a bare machine what they say, and fail when they must."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = ["install", "check", "lint", "test", "demo", "docs", "build", "address"]
NAMES += ["mac_report", "pin_oldest_mlx", "second_minute"]
SCRIPTS = [*(f"scripts/{name}" for name in NAMES), ".ci/run"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_runnable_strict_and_parses(name):
    path = ROOT / name
    assert os.access(path, os.X_OK)
    text = path.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    subprocess.run(["bash", "-n", path], check=True)


@pytest.fixture
def project(tmp_path):
    """A project folder with our scripts in it, and nothing installed."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def run(project: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [project / command[0], *command[1:]],
        cwd="/",
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )


def test_install_runs_once_and_again_when_the_dependencies_change(project):
    log = project / "calls"
    fake = f'echo "$@" >>{log}'
    script(project / ".venv/bin/python", fake)
    script(project / "bin/uv", fake)
    path = f"{project / 'bin'}:{os.environ['PATH']}"
    for _ in range(2):
        assert run(project, "scripts/install", PATH=path).returncode == 0
    installs = [line for line in log.read_text().splitlines() if "pip install" in line]
    assert len(installs) == 1
    assert "--editable ." in installs[0]
    assert ("[cpu]" in installs[0]) == (sys.platform == "linux")

    with (project / "pyproject.toml").open("a") as file:
        file.write("\n# one more\n")
    run(project, "scripts/install", PATH=path)
    assert log.read_text().count("pip install") == 2
    run(project, "scripts/install", "dev", PATH=path)
    assert log.read_text().count("pip install") == 3
    run(project, "scripts/install", PATH=path)  # dev holds all that use needs
    assert log.read_text().count("pip install") == 3


@pytest.mark.parametrize("wrong", [[], ["me"], ["a/b/c"], ["me/"], ["me/x y"]])
def test_an_address_that_is_none_is_refused_and_nothing_is_written(project, wrong):
    before = (project / "pyproject.toml").read_text()
    done = run(project, "scripts/address", *wrong)
    assert (done.returncode, done.stdout) == (2, "") and "OWNER/NAME" in done.stderr
    assert (project / "pyproject.toml").read_text() == before


def test_the_address_is_written_everywhere_and_can_be_changed_again(project):
    page = project / "README.md"
    hosts = ["git+https://github.com/{}", "https://raw.githubusercontent.com/{}/main/a"]
    text = "\n".join([*hosts, "https://{}\n"])
    page.write_text(
        text.format(*["OWNER/moshi_mlx"] * 2, "OWNER.github.io/moshi_mlx/")
        + "\nOWNER stands for\nnobody.\n\nThe end.\n"
    )
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    subprocess.run(["git", "add", "."], cwd=project, check=True)
    for new, pages in [
        ("me/voice", "me.github.io/voice/"),
        ("us/v", "us.github.io/v/"),
    ]:
        assert run(project, "scripts/address", new).returncode == 0
        assert page.read_text() == text.format(new, new, pages) + "\nThe end.\n"
        told = (project / "pyproject.toml").read_text()
        assert f'Source = "https://github.com/{new}"' in told


def test_install_without_a_fitting_python_says_so(project):
    script(project / "python2", "exit 1")
    bare = project / "bin"
    for tool in ["bash", "dirname", "cat", "cksum", "uname", "env"]:
        found = shutil.which(tool)
        assert found is not None
        bare.mkdir(exist_ok=True)
        (bare / tool).symlink_to(found)
    done = run(project, "scripts/install", PATH=str(bare), PYTHON=f"{project}/python2")
    assert done.returncode != 0
    assert "moshi_mlx needs Python 3.10 or newer" in done.stderr


@pytest.mark.parametrize("broken", ["install", "check", "second_minute", "test"])
def test_ci_fails_where_one_step_fails(project, broken):
    script(project / "bin/dpkg", "exit 0")  # every package is there
    for name in ["install", "check", "second_minute", "test"]:
        script(project / "scripts" / name, f"exit {int(name == broken)}")
    path = f"{project / 'bin'}:{os.environ['PATH']}"
    assert run(project, ".ci/run", PATH=path).returncode != 0
    script(project / "scripts" / broken, 'echo "skips fail: $MOSHI_MLX_NO_SKIP"')
    done = run(project, ".ci/run", PATH=path)
    assert done.returncode == 0
    assert set(done.stdout.splitlines()) == {"skips fail: 1"}


# Test file: (its text, whether it fails where nothing may be missing).
SKIPS = {
    "call": ("def test_x(): pytest.skip('no microphone')", True),
    "mark": ("@pytest.mark.skipif(True, reason='no gpu')\ndef test_x(): ...", True),
    "import": ("there = pytest.importorskip('not_there_at_all')", True),
    "platform": ("def test_x(): pytest.skip('not on Python 3.14: no wheel')", False),
    "xfail": ("@pytest.mark.xfail\ndef test_x(): raise ValueError", False),
    "pass": ("def test_x(): ...", False),
}


@pytest.mark.parametrize("variable", ["MOSHI_MLX_NO_SKIP", "CI", None])
def test_a_skipped_test_fails_where_nothing_may_be_missing(tmp_path, variable):
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    for name, (source, _) in SKIPS.items():
        (tmp_path / f"test_{name}.py").write_text(f"import pytest\n{source}\n")
    env = {k: v for k, v in os.environ.items() if k not in ("CI", "MOSHI_MLX_NO_SKIP")}
    env |= {"PYTHONPATH": str(ROOT)} | ({variable: "1"} if variable else {})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--continue-on-collection-errors", "-rfE"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    bad = {
        line.split("test_")[1].split(".py")[0]
        for line in done.stdout.splitlines()
        if line.startswith(("FAILED", "ERROR"))
    }
    assert bad == {name for name, (_, fails) in SKIPS.items() if fails and variable}
    assert (done.returncode != 0) == bool(bad)
