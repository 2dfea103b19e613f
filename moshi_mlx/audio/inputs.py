"""What users can give as a sound: a file, a pipe, standard input, bytes, an open
file."""

import contextlib
import errno
import io
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import DISK_FULL, AudioError

SoundLike = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
STDIN = ("-", "/dev/stdin", "/dev/fd/0")
DEVICES = "/dev/"  # anything there may be a pipe, whatever it looks like
SPARE_DISK = 20 * 2**20  # bytes to leave free when a pipe is stored
PREFIX = "moshi-mlx-"  # of temporary files
_BLOCK = 2**20


class Input:
    """A sound in a regular file, which can be read several times and in any order.

    Anything else (a pipe, bytes) is stored in a temporary file until ``close``, or
    until it is deleted.

    Args:
        sound: a path; "-" for standard input; the bytes of a file; or a file that is
            open for reading.

    Raises: AudioError if there is nothing to read.
    """

    def __init__(self, sound: SoundLike):
        self._kept: Any = None  # the temporary file
        if isinstance(sound, bytes | bytearray | memoryview):
            self.name = "the sound"
            self._keep(io.BytesIO(sound))
        elif hasattr(sound, "read"):
            self.name = str(getattr(sound, "name", "the sound"))
            if isinstance(sound, io.TextIOBase):
                raise AudioError(
                    f"{self.name} was opened as text: open it with mode 'rb'."
                )
            self._keep(sound)
        elif str(sound) in STDIN:
            self.name = "standard input"
            self._keep(_stdin())
        else:
            self.name = str(sound)
            self.path = Path(os.fspath(sound))  # type: ignore[arg-type]
            self._check()
        self.size = self.path.stat().st_size
        if not self.size:
            raise AudioError(
                f"{self.name} is empty: there was nothing to read."
                if self._kept
                else f"{self.name} is an empty file: record or download it again."
            )

    def close(self) -> None:
        """Remove the temporary file, if there is one."""
        if self._kept is not None:
            self._kept.close()

    def __del__(self) -> None:
        self.close()

    def _check(self) -> None:
        """Make sure that ``path`` can be read, more than once."""
        path = self.path
        try:
            mode = path.stat().st_mode
        except (OSError, ValueError) as error:  # ValueError: a name with a NUL
            if isinstance(error, FileNotFoundError | NotADirectoryError | ValueError):
                raise AudioError(
                    f"there is no file {path!s}: check the name and the folder."
                ) from error
            raise AudioError(f"{path} cannot be opened: {error.strerror}.") from error
        if stat.S_ISDIR(mode):
            raise AudioError(f"{path} is a folder: name one sound file in it.")
        if is_device(path):
            raise AudioError(f"{path} is a device: name a sound file.")
        pipe = not stat.S_ISREG(mode)
        try:
            with path.open("rb") as file:
                if pipe or not _plain(path):
                    self._keep(file)
        except OSError as error:
            raise AudioError(f"{path} cannot be opened: {error.strerror}.") from error

    def _keep(self, source: Any) -> None:
        """Copy all of ``source`` into a temporary file."""
        try:
            self._kept = temporary_file()
            while block := source.read(_BLOCK):
                if self._kept.tell() % (16 * _BLOCK) < _BLOCK:
                    _leave_room(self._kept.name)
                self._kept.write(block)
            self._kept.flush()
        except OSError as error:
            self.close()
            if error.errno not in (*DISK_FULL, errno.ENOENT, errno.EROFS):
                raise AudioError(
                    f"{self.name} cannot be read: {error.strerror}."
                ) from error
            raise AudioError(
                f"{self.name} cannot be kept on disk while it is read "
                f"({error.strerror or error}): set TMPDIR to a folder with room."
            ) from error
        except BaseException:
            self.close()
            raise
        self.path = Path(self._kept.name)


def temporary_file(suffix: str = "") -> Any:
    """A file that is removed when it is closed, or by the next one if that failed.

    A killed process cannot remove its own; the names say which process they belong to.
    """
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = path.name.removeprefix(PREFIX).split("-")[0]
        if owner.isdigit() and not _is_running(int(owner)):
            with contextlib.suppress(OSError):
                path.unlink()
    prefix = f"{PREFIX}{os.getpid()}-"
    return tempfile.NamedTemporaryFile(prefix=prefix, suffix=suffix)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        pass
    return True


def name_of(sound: object, stem: str = "stdin") -> Path:
    """A path whose folder and stem suit files that are written beside a sound.

    Args:
        stem: for sounds without a place of their own, such as a pipe.
    """
    placeless = str(sound) in STDIN or str(sound).startswith(DEVICES)
    return Path(stem if placeless else str(sound))


def exists(path: Path) -> bool:
    """Whether there is something to read at ``path``, or it means standard input."""
    with contextlib.suppress(OSError, ValueError):  # not a valid file name
        return str(path) in STDIN or (path.exists() and not path.is_dir())
    return False


def is_device(path: Path) -> bool:
    """Whether there is something at ``path`` that is no file, folder, pipe or socket.

    Raises: OSError if that cannot be found out.
    """
    mode = path.stat().st_mode
    known = (stat.S_ISREG, stat.S_ISDIR, stat.S_ISFIFO, stat.S_ISSOCK)
    return not any(is_known(mode) for is_known in known)


def can_be_read_again(path: Path) -> bool:
    """False for pipes and standard input, which can be read only once."""
    return path.is_file() or not exists(path)


def _plain(path: Path) -> bool:
    """Whether a file has a place, and a name that every library accepts."""
    with contextlib.suppress(UnicodeEncodeError):
        return bool(str(path).encode()) and not str(path).startswith(DEVICES)
    return False


def _stdin() -> Any:
    if sys.stdin is None or sys.stdin.isatty():
        raise AudioError(
            "standard input (-) is the keyboard: pipe a sound file into this command."
        )
    return sys.stdin.buffer


def _leave_room(path: str) -> None:
    if shutil.disk_usage(os.path.dirname(path)).free < SPARE_DISK:
        raise OSError(errno.ENOSPC, "no space left on device")
