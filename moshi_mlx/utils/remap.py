"""Rename the tensors of a checkpoint by a table of rules, completely or not at all."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import mlx.core as mx

from ..errors import CheckpointError

Move = Callable[[mx.array], mx.array]
NAMES_SHOWN = 6  # names of a long list of tensors, in an error message


def identity(w: mx.array) -> mx.array:
    """The tensor unchanged."""
    return w


@dataclass(frozen=True)
class Rule:
    """One family of tensors: its name there, its name here, and how its axes move.

    Args:
        source: regular expression that matches the whole name in the file.
        target: our name, a replacement template (``\\1``); None drops the tensor on
            purpose.
        move: lazy change of shape or value. Targets with the same source *and* the same
            ``move`` object share one array, hence its memory.
    """

    source: str
    target: str | None
    move: Move = identity


def remap(
    weights: Mapping[str, mx.array],
    rules: Iterable[Rule],
    what: str,
    expected: Collection[str] | None = None,
) -> dict[str, mx.array]:
    """Rename every tensor; each rule that matches a name gives one target.

    Args:
        weights: the tensors of a file; lazily loaded ones stay lazy.
        rules: the table.
        what: what the tensors are, for messages ("codec in x.safetensors").
        expected: if given, the result must have exactly these names.

    Raises:
        CheckpointError: a name that no rule knows, two sources for one target, or
            names that differ from ``expected``.
    """
    table = [(_compiled(rule.source), rule) for rule in rules]
    renamed: dict[str, mx.array] = {}
    origin: dict[str, str] = {}
    unknown: list[str] = []
    for name, tensor in weights.items():
        moved: dict[Move, mx.array] = {}
        known = False
        for pattern, rule in table:
            match = pattern.fullmatch(name)
            if match is None:
                continue
            known = True
            if rule.target is None:
                continue
            target = match.expand(rule.target)
            if target in origin:
                raise CheckpointError(
                    f"{what}: {origin[target]!r} and {name!r} are two spellings of one "
                    "tensor: the file is damaged or mixed from two models."
                )
            if rule.move not in moved:
                moved[rule.move] = _move(rule.move, tensor, name, what)
            renamed[target] = moved[rule.move]
            origin[target] = name
        if not known:
            unknown.append(name)
    if unknown:
        raise CheckpointError(
            f"{what}: unknown tensors {shown(unknown)}: these weights belong to "
            "another model or configuration."
        )
    if expected is not None:
        check_names(renamed, expected, what)
    return renamed


def check_names(names: Iterable[str], expected: Collection[str], what: str) -> None:
    """Raise a CheckpointError unless the names are exactly the expected ones."""
    found, wanted = set(names), set(expected)
    for differing, word in ((wanted - found, "missing"), (found - wanted, "unknown")):
        if differing:
            raise CheckpointError(
                f"{what}: {word} tensors {shown(differing)}: the weights and their "
                "config.json do not belong together."
            )


def shown(names: Iterable[str]) -> str:
    """A list of tensor names, cut to a readable length."""
    ordered = sorted(names)
    text = ", ".join(ordered[:NAMES_SHOWN])
    more = len(ordered) - NAMES_SHOWN
    return f"{text} and {more} more" if more > 0 else text


def _move(move: Move, tensor: mx.array, name: str, what: str) -> mx.array:
    try:
        return move(tensor)
    except ValueError as error:  # MLX raises it for shapes that do not fit
        raise CheckpointError(
            f"{what}: tensor {name!r} of shape {tensor.shape} does not fit its place: "
            f"{error}"
        ) from error


@lru_cache(maxsize=4096)  # re's own cache holds 512, fewer than a large model's rules
def _compiled(source: str) -> re.Pattern[str]:
    return re.compile(source)
