"""Weights in several files: listed in an index, or recognised by their names."""

import re
from pathlib import Path

from ..errors import CheckpointError
from ..utils.json_text import read_json

PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")


def parts_of_index(index: Path) -> list[str]:
    """The files that an index of weights in several parts lists."""
    table = read_json(index).get("weight_map")
    names = list(table.values()) if isinstance(table, dict) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise CheckpointError(
            f"{str(index)!r} has no weight_map from tensors to files: download it "
            "again."
        )
    return sorted(set(names))


def shards_of(folder: Path) -> list[Path]:
    """Weights in several files without an index, if all of them are there.

    Raises: CheckpointError if one is missing.
    """
    found = {path: m for path in folder.iterdir() if (m := SHARD.fullmatch(path.name))}
    if not found:
        return []
    name, count = min((match[1], int(match[3])) for match in found.values())
    mine = {int(m[2]): p for p, m in found.items() if m[1] == name}
    lacking = sorted(set(range(1, count + 1)) - mine.keys())
    if lacking:
        missing = f"{name}-{lacking[0]:05}-of-{count:05}.safetensors"
        raise CheckpointError(
            f"{str(folder)!r} lacks {missing}, one of the {count} files of its "
            "weights: fetch it too."
        )
    return [mine[number] for number in sorted(mine)]


def pickled(folder: Path) -> Path | None:
    """A file in a folder that is named like pickled weights."""
    return next((p for p in sorted(folder.iterdir()) if p.suffix in PICKLES), None)
