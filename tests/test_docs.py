"""What README and documentation say is so: Python runs, commands and files exist."""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from moshi_mlx.cli import main as cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]
)
QUESTION = ROOT / "moshi_mlx" / "demo" / "questions" / "joke.wav"


def blocks(language: str) -> list[Any]:
    """Each block of code in that language, as a parameter named by its page."""
    found = []
    for page in filter(Path.exists, PAGES):
        text = page.read_text(encoding="utf-8")
        name = str(page.relative_to(ROOT))
        fenced = re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.DOTALL | re.M)
        found += [pytest.param(code, id=f"{name}-{i}") for i, code in enumerate(fenced)]
    return found


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_in_the_documentation_runs(code, tmp_path, monkeypatch):
    shutil.copy(QUESTION, tmp_path / "question.wav")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "documentation", "exec"), {})
    assert len(printed.getvalue().split()) >= 3


@cache
def options(command: str) -> set[str]:
    """Every option of `moshi-mlx COMMAND`."""
    app = cli._typer()
    cli._add(app, command)
    params: Any = typer.main.get_command(app).params  # type: ignore[attr-defined]
    return {"--help", "-h"} | {o for p in params for o in [*p.opts, *p.secondary_opts]}


@pytest.mark.parametrize("code", blocks("bash"))
def test_the_commands_in_the_documentation_exist(code):
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if "moshi-mlx" not in words:
            continue
        command, *rest = words[words.index("moshi-mlx") + 1 :]
        if command.startswith("-"):
            assert command in ("--help", "--version", "--install-completion")
        elif command != "COMMAND":
            assert command in cli.available(), line
            asked = {word for word in rest if re.match("--?[a-z]", word)}
            assert asked <= options(command), line


def test_the_readme_lists_every_command():
    listed = re.findall(r"^\| `moshi-mlx (\w+)", README, re.MULTILINE)
    assert sorted(listed) == sorted(cli.available())


def test_every_command_has_a_page_with_its_options():
    for name in cli.available():
        page = (ROOT / "docs" / "commands" / f"{name}.md").read_text(encoding="utf-8")
        assert f'--8<-- "options/{name}.md"' in page


def test_the_folders_that_contributors_are_shown_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = text.split("```\nmoshi_mlx/\n")[1].split("```")[0]
    for line in tree.splitlines():
        inside = ROOT / "moshi_mlx" if line.startswith("  ") else ROOT
        assert (inside / line.split()[0]).exists(), line
    shown = {line.split()[0] for line in tree.splitlines() if line.startswith("  ")}
    assert shown == {f"{f.parent.name}/" for f in ROOT.glob("moshi_mlx/*/__init__.py")}


def test_the_places_that_contributors_are_sent_to_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.split("## I want to add ...")[1].split("##")[0]
    named = set(re.findall(r"`([\w/.]+(?:/|\.(?:py|md|json|toml)))`", table))
    assert len(named) > 15
    for name in named:
        if "NAME" not in name:
            places = [ROOT / name, ROOT / "moshi_mlx" / name]
            assert any(place.exists() for place in places), name


def test_the_scripts_that_are_named_exist():
    for page in filter(Path.exists, PAGES):
        text = page.read_text(encoding="utf-8")
        for script in set(re.findall(r"scripts/[\w-]+(?:\.\w+)?", text)):
            path = ROOT / script.rstrip(".")
            readable = path.suffix in (".py", ".txt") and path.is_file()
            assert readable or os.access(path, os.X_OK), f"{page.name}: {script}"


def test_the_readme_holds_on_other_sites():
    """PyPI and the wheel show it without the repository around it."""
    links = re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", README)
    assert links
    for link in (a or b for a, b in links):
        assert link.startswith("https://"), link


def test_one_address_is_named_everywhere():
    named = subprocess.run(
        ["git", "grep", "-hoE", r"github\.com/OWNER/[A-Za-z_-]+", ":!scripts/address"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert set(named) <= {"github.com/OWNER/moshi_mlx"}


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 11), reason="not on Python 3.10: Zensical")
def test_the_site_builds_without_a_warning():
    done = subprocess.run([ROOT / "scripts/docs"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (ROOT / "site" / "commands" / "chat" / "index.html").is_file()
