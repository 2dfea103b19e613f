"""``scripts/mutate``: change one thing in the code at a time; do the tests notice?

The changes are cosmic-ray's. Each runs in a fork that has the libraries loaded already,
on a copy of the package, so that a change costs a fraction of a second.
"""

import argparse
import difflib
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).parents[1]
LIMIT_S = 30
GATE = "tests/serve/gate"
# Files, and the tests that are to notice every change of what they do.
TARGETS: dict[str, list[str]] = {
    "serve/gate/security.py": [f"{GATE}/test_guard.py", f"{GATE}/test_security.py"],
    "serve/gate/guard.py": [f"{GATE}/test_guard.py", f"{GATE}/test_flood.py"],
    "serve/gate/limits.py": [f"{GATE}/test_limits.py", f"{GATE}/test_addresses.py"],
    "serve/gate/addresses.py": [f"{GATE}/test_addresses.py"],
    "serve/gate/lobby.py": [f"{GATE}/test_limits.py"],
    "serve/gate/head.py": [f"{GATE}/test_head.py"],
    "serve/gate/frames.py": [f"{GATE}/test_frames.py"],
    "serve/gate/logs.py": [f"{GATE}/test_logs.py"],
    "serve/gate/gate.py": [f"{GATE}/test_gate.py", f"{GATE}/test_addresses.py"],
    "serve/protocols/moshi/messages.py": ["tests/serve/test_protocol.py"],
    "serve/protocols/moshi/settings.py": [f"{GATE}/test_limits.py"],
    "utils/json_text.py": ["tests/utils/test_json_text.py"],
    "utils/tensor_files.py": [
        *("tests/utils/test_tensor_files.py", "tests/checkpoint/test_formats.py"),
    ],
    "models/schema.py": [
        *("tests/models/test_config_values.py", "tests/checkpoint/test_hostile.py"),
    ],
    "checkpoint/source.py": [
        *("tests/checkpoint/test_hostile.py", "tests/checkpoint/test_info.py"),
    ],
    "checkpoint/shards.py": ["tests/checkpoint/test_formats.py"],
    "utils/sampling.py": ["tests/utils/test_sampling.py"],
    "modules/ring.py": ["tests/modules/test_kv_cache.py"],
    "modules/kv_cache.py": ["tests/modules/test_kv_cache.py"],
    "modules/quantized_kv.py": ["tests/modules/test_quantized_kv.py"],
    "models/streams.py": ["tests/models/test_streams.py"],
    "engines/tts/machine.py": ["tests/engines/tts/test_machine.py"],
    "engines/queue.py": ["tests/engines/test_queue.py"],
    "live/jitter.py": ["tests/live/test_jitter.py"],
}
WARM = ("pytest", "numpy")  # MLX cannot: its threads do not survive a fork


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


def is_noticed(folder: Path, tests: list[str]) -> bool:
    """Whether the tests fail, or do not end, on the package in a folder."""
    child = os.fork()
    if child == 0:
        _run_tests(folder, tests)
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status != 0
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def _run_tests(folder: Path, tests: list[str]) -> None:
    """In a fork, which this ends."""
    import pytest

    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    os.chdir(folder)
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    quick = "not slow and not network and not clients"
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", quick]
    code = 1
    try:
        code = int(pytest.main([*options, *tests]))
    finally:
        os._exit(code)


def difference(before: str, after: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), n=0, lineterm=""
    )
    return "\n".join(f"    {line}" for line in list(lines)[2:] if line[:2] != "@@")


def mutate(folder: Path, target: str, sample: int | None = None) -> None:
    """Try every change of a file, and print those that no test notices at once.

    Args:
        sample: try only so many of them, drawn with a fixed seed.
    """
    path = folder / "moshi_mlx" / target
    source = path.read_text()
    if is_noticed(folder, TARGETS[target]):
        raise SystemExit(f"the tests of {target} fail without any change")
    tried, killed = 0, 0
    chosen = list(mutants(path))
    if sample is not None:
        chosen = random.Random(0).sample(chosen, min(sample, len(chosen)))
    for mutant in chosen:
        after = changed(source, mutant)
        if after is None:
            continue
        tried += 1
        path.write_text(after)
        if is_noticed(folder, TARGETS[target]):
            killed += 1
        else:
            change = difference(source, after)
            print(f"{target}, line {mutant.line}\n{change}", flush=True)
    path.write_text(source)
    share = f" ({killed / tried:.0%})" if tried else ""
    print(f"{target}: {killed} of {tried} noticed{share}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--sample", type=int, help="changes to try of each file")
    given = parser.parse_args()
    for name in WARM:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="moshi-mutate-") as temporary:
        folder = Path(temporary)
        shutil.copytree(ROOT / "moshi_mlx", folder / "moshi_mlx")
        for cached in folder.rglob("__pycache__"):
            shutil.rmtree(cached)
        for name in ("tests", "pyproject.toml", "scripts"):
            (folder / name).symlink_to(ROOT / name)
        for target in given.targets or TARGETS:
            mutate(folder, target, given.sample)


if __name__ == "__main__":
    main()
