"""``scripts/mutate``: change one thing in the code at a time; do the tests notice?

The changes are cosmic-ray's. Each runs in a fork on a copy of the package. The fork has
everything loaded that the tests import, except the changed file and what imports it, so
that a change costs a fraction of a second.

A change is noticed if the tests fail, or if they do not end: they have used ten times
the processor time of the unchanged tests, or have taken five times as long (`WAIT_S` at
least) while the unchanged tests, run once more, end in that time: a busy machine is no
kill. With `--results FILE` what was tried stands in FILE, and a second run goes on from
there.
"""

import argparse
import ast
import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_code

from tests.mutation_targets import TARGETS

ROOT = Path(__file__).parents[1]
WAIT_S = 240
MEMORY = 8 << 30  # bytes: a loop that never ends may also fill the machine
PACKAGE = "moshi_mlx"


@dataclass
class Mutant:
    """One change: an operator's n-th place in a file."""

    operator: str
    occurrence: int
    line: int


def mutants(path: Path) -> Iterator[Mutant]:
    tree = get_ast_from_path(path)
    for name in cosmic_ray.plugins.operator_names():
        operator = cosmic_ray.plugins.get_operator(name)
        if operator.arguments():
            continue
        places = [
            start
            for node in ast_nodes(tree)
            for start, _ in operator().mutation_positions(node)
        ]
        for occurrence, start in enumerate(places):
            yield Mutant(name, occurrence, start[0])


def changed(source: str, mutant: Mutant) -> str | None:
    operator = cosmic_ray.plugins.get_operator(mutant.operator)()
    try:
        return mutate_code(source, operator, mutant.occurrence)
    except (
        AttributeError
    ):  # cosmic-ray 8.7 cannot replace an exception like ssl.SSLError
        return None


class Unfit(Exception):
    """The unchanged tests fail or take too long: nothing can be said about changes."""


@dataclass
class Tests:
    """The tests of one file of the package, in a folder of their own."""

    folder: Path
    target: str
    cpu_s: float = field(default=3600, init=False)
    wait_s: float = field(default=3600, init=False)
    stale: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.stale = _load(self.folder, self.target)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        if self.run(writes=True) != "passed":
            raise Unfit(f"the tests of {self.target} do not pass without any change")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
        self.cpu_s = 10 * used + 10
        self.wait_s = max(WAIT_S, 5 * (time.monotonic() - began))
        cached = importlib.util.cache_from_source(str(self.path))
        Path(cached).unlink(missing_ok=True)

    @property
    def path(self) -> Path:
        return self.folder / "moshi_mlx" / self.target

    def outcome(self, changed: str) -> str:
        """`passed`, `failed`, or `endless` if they run or wait without an end."""
        source = self.path.read_text()
        self.path.write_text(changed)
        try:
            result = self.run()
        finally:
            self.path.write_text(source)
        if result == "waited":
            if self.run() != "passed":
                raise Unfit(f"the machine is too busy for the tests of {self.target}")
            result = "endless"
        return result

    def run(self, writes: bool = False) -> str:
        """Run the tests as the package stands: `outcome`'s words, or `waited`."""
        child = os.fork()
        if child == 0:
            limit = int(self.cpu_s)
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
            _forget(self.stale)
            _run_tests(self.folder, TARGETS[self.target], writes)
        until = time.monotonic() + self.wait_s
        while time.monotonic() < until:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid and os.WIFSIGNALED(status):
                spent = os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
                return "endless" if spent else "failed"
            if pid:
                return "failed" if status else "passed"
            time.sleep(0.05)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return "waited"


def _load(folder: Path, target: str) -> list[str]:
    """Load what the tests of a file import; returns the names of what must be loaded
    anew after each change: the file itself, and whatever imports it.

    Nothing may compute here: threads, as MLX's, do not survive a fork.
    """
    tests = [folder / test for test in TARGETS[target]]
    shared = {parent / "conftest.py" for test in tests for parent in test.parents}
    for test in (*tests, *filter(Path.exists, shared)):
        for name in _imported(test, ""):
            if name.partition(".")[0] != "tests":
                with contextlib.suppress(ImportError):  # a name in a module
                    importlib.import_module(name)
    uses = {
        name: _imported(Path(str(module.__file__)), name)
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == PACKAGE and getattr(module, "__file__", None)
    }
    changed = f"{PACKAGE}.{target.removesuffix('.py').replace('/', '.')}"
    stale = {changed.removesuffix(".__init__")}
    while more := {name for name, used in uses.items() if used & stale} - stale:
        stale |= more
    return sorted(stale)


def _forget(names: list[str]) -> None:
    """Let modules be loaded anew."""
    for name in names:
        sys.modules.pop(name, None)
        within, _, own = name.rpartition(".")
        if within in sys.modules and own in vars(sys.modules[within]):
            delattr(sys.modules[within], own)


def _imported(path: Path, module: str) -> set[str]:
    """The modules, and the names in modules, that a file imports anywhere in it."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            within = ".".join([*(base if node.level else []), node.module or ""])
            within = within.rstrip(".")
            found |= {within, *(f"{within}.{alias.name}" for alias in node.names)}
    return found


def _run_tests(folder: Path, tests: list[str], writes: bool) -> None:
    """In a fork, which this ends."""
    import pytest

    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    os.chdir(folder)
    sys.dont_write_bytecode = not writes  # what is changed has none
    quick = "not slow and not network and not clients"
    loaded = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
    options = ["-x", "-q", "-p", "no:cacheprovider", "-W", loaded]
    code = 1
    try:
        code = int(pytest.main([*options, "-m", quick, *tests]))
    finally:
        os._exit(code)


def difference(before: str, after: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), n=0, lineterm=""
    )
    return "\n".join(f"    {line}" for line in list(lines)[2:] if line[:2] != "@@")


@dataclass
class Results:
    """What was tried: a line of JSON a change, in a file if there is one."""

    file: Path | None
    known: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.file is not None and self.file.exists():
            lines = map(json.loads, self.file.read_text().splitlines())
            self.known = {line["key"]: line["outcome"] for line in lines}

    def add(self, key: str, **line: str | int) -> None:
        self.known[key] = str(line["outcome"])
        if self.file is not None:
            with self.file.open("a") as out:
                out.write(json.dumps({"key": key, **line}) + "\n")


def mutate(folder: Path, target: str, sample: int | None, results: Results) -> None:
    """Try every change of a file, and print those that no test notices at once.

    Args:
        folder: a copy of the package and its tests, to be changed.
        target: the file, a key of `TARGETS`.
        sample: try only so many of them, drawn with a fixed seed.
        results: the changes that were tried before are not tried again.
    """
    tests = Tests(folder, target)
    source = tests.path.read_text()
    chosen = list(mutants(tests.path))
    if sample is not None:
        chosen = random.Random(0).sample(chosen, min(sample, len(chosen)))
    outcomes: list[str] = []
    for mutant in chosen:
        after = changed(source, mutant)
        if after is None:
            continue
        change = difference(source, after)
        key = hashlib.sha256(f"{target}\n{after}".encode()).hexdigest()[:16]
        if key not in results.known:
            outcome = tests.outcome(after)
            where = {"file": target, "line": mutant.line, "change": change}
            results.add(key, outcome=outcome, **where)
        outcomes.append(results.known[key])
        if results.known[key] == "passed":
            print(f"{target}, line {mutant.line}\n{change}", flush=True)
    killed = len(outcomes) - outcomes.count("passed")
    share = f" ({killed / len(outcomes):.0%})" if outcomes else ""
    endless = f", {outcomes.count('endless')} of them endless" if killed else ""
    print(f"{target}: {killed} of {len(outcomes)} noticed{share}{endless}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--sample", type=int, help="changes to try of each file")
    parser.add_argument("--results", type=Path, help="keep what was tried in this file")
    given = parser.parse_args()
    results = Results(given.results)
    with tempfile.TemporaryDirectory(prefix="moshi-mutate-") as temporary:
        folder = Path(temporary)
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # in processes that tests start
        sys.pycache_prefix = str(folder / "pycache")
        sys.path.insert(0, str(folder))
        shutil.copytree(ROOT / "moshi_mlx", folder / "moshi_mlx")
        for name in ("tests", "pyproject.toml", "scripts"):
            (folder / name).symlink_to(ROOT / name)
        for target in given.targets or TARGETS:
            try:
                mutate(folder, target, given.sample, results)
            except Unfit as unfit:
                print(unfit, flush=True)


if __name__ == "__main__":
    main()
