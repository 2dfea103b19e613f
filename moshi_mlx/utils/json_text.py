"""JSON from strangers: limited in length and depth, every number finite."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

MAX_BYTES = 16 * 2**20  # the largest config of a released model has 40 kB
MAX_DEPTH = 32  # lists in lists; released configs have 4


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file, which may also be a pipe.

    Raises: CheckpointError if the file cannot be read or holds anything else.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        data = parse_json(text)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{str(path)!r} cannot be read as JSON: {error}"
        ) from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{str(path)!r} should hold a JSON object.")
    return data


def parse_json(text: bytes) -> Any:
    """Parse JSON in UTF-8, with or without a byte order mark.

    Raises: ValueError for text that is not JSON, is longer than ``MAX_BYTES`` or deeper
        than ``MAX_DEPTH``, repeats a key, or contains NaN, infinity or a number that is
        too large for a float.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"it is longer than {MAX_BYTES // 2**20} MiB.")
    try:
        data = json.loads(
            text.decode("utf-8-sig"),
            parse_constant=_refuse,
            parse_float=_finite,
            object_pairs_hook=_unique,
        )
    except RecursionError:
        raise ValueError(_too_deep()) from None
    _check_depth(data)
    return data


def _refuse(word: str) -> None:
    raise ValueError(f"it holds {word}, which is not a number.")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"it holds the number {digits[:40]}, which is too large.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"it names {twice[:80]!r} twice.")
    return data


def _check_depth(data: Any) -> None:
    """Level by level, so that the check itself needs no recursion."""
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise ValueError(_too_deep())


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _too_deep() -> str:
    return f"it is nested more than {MAX_DEPTH} levels deep."
