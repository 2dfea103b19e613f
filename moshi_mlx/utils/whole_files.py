"""Files that get their name once they are complete, whatever ends the program."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .paths import real_path

_LONGEST = 255  # bytes of a file name


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write, which replaces ``path`` if the block ends without an error.

    It is written beside ``path`` under a fixed name, so the next run replaces what a
    killed one has left. Links are followed, and an existing file keeps its permissions.
    A pipe, a device, or a file in a write-protected folder is written in place.
    """
    real = real_path(path)
    there = real.exists()
    if (there and not real.is_file()) or not os.access(real.parent, os.W_OK):
        yield path
        return
    begun = part_of(real)
    try:
        begun.unlink(missing_ok=True)  # left by a killed run
        yield begun
        if there:
            shutil.copymode(real, begun)
        os.replace(begun, real)
    finally:
        begun.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file in UTF-8, see ``whole_file``. Raises: OSError."""
    with whole_file(path) as begun:
        begun.write_text(text, encoding="utf-8")


def part_of(path: Path) -> Path:
    """The path at which a file is written before it gets its name."""
    name = os.fsencode(path.name)[: _LONGEST - len("..part")]
    return path.with_name(f".{os.fsdecode(name)}.part")
