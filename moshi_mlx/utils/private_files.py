"""Private files: new, readable only by their owner, and never through a link."""

import os
from pathlib import Path

_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)  # Windows has no such flag


def new_private(path: str, flags: int) -> int:
    """An opener for ``open``: the file is new and readable for its owner alone.

    Raises: FileExistsError if anything of that name is there, a link included.
    """
    return os.open(path, flags | os.O_CREAT | os.O_EXCL | _NO_LINKS, 0o600)


def write_private(path: Path, data: bytes) -> None:
    """Write a new file for its owner alone; errors as ``new_private``."""
    with open(path, "wb", opener=new_private) as file:
        file.write(data)
