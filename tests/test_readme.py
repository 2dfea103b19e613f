"""What the README says is so: its Python runs, its commands and scripts exist."""

import contextlib
import io
import os
import re
import shutil
from pathlib import Path

import pytest

from moshi_mlx.cli.main import available

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
QUESTION = ROOT / "moshi_mlx" / "demo" / "questions" / "joke.wav"


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_its_python_runs_and_speaks(code, tmp_path, monkeypatch):
    shutil.copy(QUESTION, tmp_path / "question.wav")
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert len(printed.getvalue().split()) >= 3


def test_its_commands_exist_and_all_are_listed():
    listed = re.findall(r"^\| `moshi-mlx (\w+)", README, re.MULTILINE)
    assert sorted(listed) == sorted(available())


def test_its_scripts_and_folders_exist():
    for script in set(re.findall(r"scripts/\w+(?:\.py)?", README)):
        path = ROOT / script
        readable = path.suffix == ".py" and path.is_file()
        assert readable or os.access(path, os.X_OK), script  # a program, or a folder
    tree = README.split("```\nmoshi_mlx/\n")[1].split("```")[0]
    for line in tree.splitlines():
        name = line.split()[0]
        inside = ROOT / "moshi_mlx" if line.startswith("  ") else ROOT
        assert (inside / name).exists(), name
