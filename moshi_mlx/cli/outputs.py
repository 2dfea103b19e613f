"""The files that a command is asked to write: told apart before anything is run."""

from collections.abc import Mapping
from pathlib import Path

from ..errors import AudioError


def check_outputs(read: Path | None, written: Mapping[str, Path | None]) -> None:
    """Check that files to write are neither the file to read nor each other.

    Args:
        read: the recording that is read while the others are written.
        written: what the user calls each file, and its name; None is not asked for.

    Raises: AudioError where two are one file, or a folder is not there.
    """
    names = {} if read is None else {_real(read): "the recording itself"}
    for what, path in written.items():
        if path is None:
            continue
        if not path.absolute().parent.is_dir():
            raise AudioError(
                f"{path} cannot be written: there is no folder {path.parent}. Make it, "
                "or choose another place."
            )
        other = names.setdefault(_real(path), what)
        if other != what:
            raise AudioError(f"{path} is {other}: give {what} a name of its own.")


def _real(path: Path) -> Path:
    return path.resolve()
