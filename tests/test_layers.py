"""Imports point down: no module of moshi_mlx knows one that stands above it."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "moshi_mlx"

# What each part may import from the package, itself aside.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "linux_cpu": set(),
    "utils": {"errors"},
    "audio": {"errors", "utils"},
    "documents": {"errors", "utils", "audio"},
    "compat": {"errors", "utils"},
    "modules": {"errors", "compat"},
    "fast": {"modules"},
    "models": {"errors", "linux_cpu", "utils", "compat", "modules", "fast"},
    "checkpoint": {"errors", "utils", "modules", "models"},
    "codec": {"errors", "utils", "audio", "modules", "models", "checkpoint"},
}
ALLOWED["engines"] = ALLOWED["codec"] | {"codec", "documents", "compat"}
ALLOWED["live"] = ALLOWED["engines"] | {"engines"}
ALLOWED["serve"] = ALLOWED["engines"] | {"engines"}
ALLOWED["finetune"] = ALLOWED["engines"] | {"engines", "fast"}
ALLOWED["bench"] = ALLOWED["live"] | {"live", "linux_cpu", "fast", "finetune"}
ALLOWED["cli"] = ALLOWED["bench"] | {"serve", "bench"}
ENTRIES = ["client_utils", "local", "local_web", "run_inference", "run_tts"]
ALLOWED |= {name: {"cli"} for name in [*ENTRIES, "run_helium", "__main__"]}
ALLOWED["offline"] = ALLOWED["engines"] | {"engines", "cli"}
# Paths of moshi_mlx 0.3.0 that only forward to where things are now.
FORWARDS = {"models.tts": "engines.tts"}

# Loaded only by the functions that use them, so that importing stays quick and works
# on machines that lack, say, PortAudio.
ON_USE = {"sounddevice", "sphn", "soundfile", "av", "rustymimi", "sentencepiece"}
ON_USE |= {"huggingface_hub", "PIL"}
ON_USE |= {
    "pywebrtc_audio",
    "fastapi",
    "msgpack",
    "wyoming",
    "zeroconf",
    "starlette",
    "uvicorn",
    "websockets",
    "rich",
    "cryptography",
}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(tree: ast.AST, module: str, for_types: bool = False) -> Iterator[str]:
    """Full names that ``module`` imports anywhere.

    Args:
        for_types: whether imports that only type checkers see count too.
    """
    package = module.split(".")[:-1]
    for node in ast.iter_child_nodes(tree):
        if is_type_checking(node) and not for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            yield from (".".join([*base, alias.name]) for alias in node.names)
        else:
            yield from imports(node, module, for_types)


def modules() -> list[tuple[str, ast.Module]]:
    """Each file as (dotted name below moshi_mlx, tree); a package is its __init__."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found.append((name, ast.parse(path.read_text(), str(path))))
    return found


def may_import(part: str, other: str) -> bool:
    """Whether ``part`` may see ``other``, a dotted name below moshi_mlx."""
    if other.split(".")[0] == part:
        return True
    return any(other == low or other.startswith(low + ".") for low in ALLOWED[part])


FILES = modules()


def test_imports_point_down():
    for name, tree in FILES:
        part = name.split(".")[0]
        if part == "__init__":  # loads its parts on use: tests/test_package.py
            continue
        assert part in ALLOWED, f"{part} is new: give it its place in ALLOWED"
        for full in imports(tree, f"moshi_mlx.{name}"):
            if full.split(".")[0] == "moshi_mlx":
                other = full.removeprefix("moshi_mlx").removeprefix(".")
                if name in FORWARDS and other.startswith(FORWARDS[name]):
                    continue
                if other != "__version__":  # no part, anybody may print it
                    assert may_import(part, other), f"{name} imports {full}"


def test_heavy_packages_are_imported_where_they_are_used():
    definitions = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    for name, tree in FILES:
        top = [node for node in tree.body if not isinstance(node, definitions)]
        for full in imports(ast.Module(top, []), f"moshi_mlx.{name}"):
            assert full.split(".")[0] not in ON_USE, f"{name} imports {full} at its top"


def test_networks_know_no_numpy():
    for name, tree in FILES:
        if name.startswith("modules."):
            assert "numpy" not in imports(tree, f"moshi_mlx.{name}"), name


def test_only_declared_packages_are_imported():
    project = (PACKAGE.parent / "pyproject.toml").read_text()
    declared = project.split("\ndependencies = [")[1].split("\n# For work on")[0]
    declared = declared.replace("-", "_").lower()  # the extras for users among them
    for name, tree in FILES:
        for full in imports(tree, f"moshi_mlx.{name}"):
            top = {"yaml": "pyyaml"}.get(full.split(".")[0], full.split(".")[0])
            if top not in {"moshi_mlx", *sys.stdlib_module_names}:
                assert f'"{top.lower()}' in declared, (
                    f"{name} imports {top}: declare it"
                )


def graph(files: list[tuple[str, ast.Module]]) -> dict[str, set[str]]:
    """The modules that each module imports, for types and inside functions too."""
    known = {name.removesuffix(".__init__") for name, _ in files}
    edges: dict[str, set[str]] = {}
    for name, tree in files:
        edges[name.removesuffix(".__init__")] = seen = set[str]()
        for full in imports(tree, f"moshi_mlx.{name}", for_types=True):
            other = full.removeprefix("moshi_mlx.")
            if other not in known:  # a name in a module
                other = other.rpartition(".")[0]
            if other in known and other != name.removesuffix(".__init__"):
                seen.add(other)
    return edges


def circles(edges: dict[str, set[str]]) -> list[set[str]]:
    """Modules that import each other, directly or by way of others."""
    reach = {name: set(others) for name, others in edges.items()}
    for middle in edges:
        for name in edges:
            if middle in reach[name]:
                reach[name] |= reach[middle]
    found: list[set[str]] = []
    for name in edges:
        circle = {other for other in reach[name] if name in reach[other]}
        if circle and circle not in found:
            found.append(circle)
    return found


def test_no_modules_import_each_other():
    assert circles(graph(FILES)) == []


def test_circles_are_found_however_they_are_imported():
    sources = {
        "a.one": "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from .two import Two",
        "a.two": "def f():\n    from ..b import three",
        "b.__init__": "",
        "b.three": "import moshi_mlx.a.one",
        "b.four": "from . import three",
    }
    files = [(name, ast.parse(source)) for name, source in sources.items()]
    assert circles(graph(files)) == [{"a.one", "a.two", "b.three"}]
    assert circles(graph(files[1:])) == []


def places(names: Iterator[tuple[str, str]]) -> dict[str, list[str]]:
    """Names that occur in several places, with those places."""
    found: dict[str, list[str]] = {}
    for name, place in names:
        found.setdefault(name, []).append(place)
    return {name: where for name, where in found.items() if len(where) > 1}


def test_a_class_has_its_name_to_itself():
    assert not places(
        (node.name, module)
        for module, tree in FILES
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    )


def constants(module: str, tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Names and values ("NAME = value") that a module defines at its top."""
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for name in (target.id for target in targets if isinstance(target, ast.Name)):
            value = ast.unparse(node.value)
            # loggers and type variables belong to their module
            public = not name.startswith("_") and "__name__" not in value
            if public and "TypeVar(" not in value:
                yield f"{name} = {value}", module


def test_a_constant_is_written_down_once():
    found = (pair for module, tree in FILES for pair in constants(module, tree))
    assert not places(found)


def test_commands_say_what_they_take_and_give():
    for name, tree in FILES:
        if not name.startswith("cli.") or name == "cli.main":  # main subclasses Typer's
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                hints = [
                    arg.annotation for arg in node.args.args + node.args.kwonlyargs
                ]
                told = [ast.unparse(hint) for hint in [*hints, node.returns] if hint]
                assert "Any" not in told, f"{name}.{node.name}"


@pytest.mark.parametrize(
    "part, source, seen",
    [
        ("modules.conv", "from ..models import lm", "moshi_mlx.models.lm"),
        (
            "engines.tts.voices",
            "from ...audio.files import read",
            "moshi_mlx.audio.files.read",
        ),
        (
            "live.x",
            "def f():\n    from ..serve import server",
            "moshi_mlx.serve.server",
        ),
        ("errors", "import moshi_mlx.cli.main", "moshi_mlx.cli.main"),
    ],
)
def test_the_reader_of_imports_sees_every_form(part, source, seen):
    assert list(imports(ast.parse(source), f"moshi_mlx.{part}")) == [seen]


def test_the_table_forbids_what_it_should():
    assert may_import("bench", "linux_cpu.blas")
    assert not may_import("models", "audio.framing.FRAME")
    assert not may_import("modules", "models.lm")
    assert not may_import("live", "cli.console")
    assert may_import("cli", "serve.server")
