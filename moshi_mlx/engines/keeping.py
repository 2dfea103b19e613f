"""Sessions whose state can be saved and restored, and the state of plain objects."""

from abc import abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from ..models.snapshot import Snapshot, Tree
from .closing import Closing


class Keeping(Closing):
    """A session whose state can be kept, saved to a file, and continued.

    The settings that the session was made with (voices, prompts, sampling, guidance)
    are not part of the state: continue in a session with the same settings.
    """

    def snapshot(self) -> Snapshot:
        """The session's current state, to be saved, or restored here or elsewhere."""
        self._check_open("snapshot")
        return self._computed_by().run(self._keep)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot; the results are the same as after it was taken.

        Raises: ConfigError, in one sentence, for a snapshot of another kind, another
            model or other settings.
        """
        self._check_open("restore")
        self._computed_by().run(lambda: self._go_on(snapshot))

    @property
    def state(self) -> Tree:
        """The content of a snapshot; may be set to that of another session with the
        same model and settings."""
        return self.snapshot().state

    @state.setter
    def state(self, state: Tree) -> None:
        now = self.snapshot()
        self.restore(Snapshot(now.kind, now.fits, state))

    @abstractmethod
    def _keep(self) -> Snapshot:
        """The snapshot, made on the session's thread."""

    @abstractmethod
    def _go_on(self, snapshot: Snapshot) -> None:
        """Restore a snapshot on the session's thread."""


def remembered(thing: object, names: Sequence[str]) -> dict[str, Tree]:
    """The named attributes of an object: numbers, words, arrays, and lists of them."""
    return {name: as_tree(getattr(thing, name)) for name in names}


def remember(thing: object, state: Mapping[str, Tree]) -> None:
    """Set attributes from the result of ``remembered``, in their current types."""
    for name, value in state.items():
        setattr(thing, name, _like(getattr(thing, name), value))


def as_tree(value: Any) -> Tree:
    """A value without types of our own."""
    if isinstance(value, np.ndarray):
        return mx.array(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_tree(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, list | tuple | deque | set):
        parts = sorted(value) if isinstance(value, set) else value
        return [as_tree(part) for part in parts]
    return value


def _like(now: Any, value: Tree) -> Any:
    if isinstance(now, np.ndarray):
        return np.array(value, now.dtype)
    if isinstance(now, list | deque | set):
        return type(now)(value)  # a copy, or two continued sessions would share it
    return value
