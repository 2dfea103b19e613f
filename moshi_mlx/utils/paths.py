"""Paths that people name."""

import os
from pathlib import Path


def real_path(path: Path) -> Path:
    """An absolute path without links. Those that lead in a circle stay as they are:
    before Python 3.13, ``Path.resolve`` raises RuntimeError for them."""
    return Path(os.path.realpath(path))
