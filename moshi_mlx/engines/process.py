"""The model thread and its process: a clean exit, and an error after a fork."""

import atexit
import os
from typing import Protocol
from weakref import WeakSet

from ..errors import MoshiError
from ..utils.processes import FORKED


class Closeable(Protocol):
    """Anything that must end before its process does."""

    def close(self) -> None: ...


_watched: WeakSet[Closeable] = WeakSet()
_is_forked = _is_ending = False


def watch(thread: Closeable) -> None:
    """Close ``thread`` at exit: the process aborts if one of MLX's threads runs."""
    _watched.add(thread)


def check() -> None:
    """Raise a MoshiError if this process cannot compute: it is ending, or it is a fork
    of one in which a model had been loaded."""
    if _is_forked:
        raise MoshiError(FORKED)
    if _is_ending:
        raise MoshiError("the program is ending: its models have been closed.")


def _close_all() -> None:
    global _is_ending
    _is_ending = True
    if not _is_forked:
        for thread in list(_watched):
            thread.close()


def _note_fork() -> None:
    global _is_forked
    _is_forked = _is_forked or bool(_watched)


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_note_fork)
