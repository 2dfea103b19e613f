"""Sessions whose state is kept and brought back, and what plain objects remember."""

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

    What the session was made with (voices, prompts, sampling, guidance) is not part of
    the state: continue in a session that was made with the same.
    """

    def snapshot(self) -> Snapshot:
        """The session as it is now, to be saved or restored, here or elsewhere."""
        self._check_open("snapshot")
        return self._computed_by().run(self._keep)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue: what follows is what followed the snapshot.

        Raises: ConfigError, in one sentence, for a snapshot of another kind, another
            model or other settings.
        """
        self._check_open("restore")
        self._computed_by().run(lambda: self._go_on(snapshot))

    @property
    def state(self) -> Tree:
        """What a snapshot of now holds; may be set to that of another session with the
        same model and settings."""
        return self.snapshot().state

    @state.setter
    def state(self, state: Tree) -> None:
        now = self.snapshot()
        self.restore(Snapshot(now.kind, now.fits, state))

    @abstractmethod
    def _keep(self) -> Snapshot:
        """The snapshot, made where the session computes."""

    @abstractmethod
    def _go_on(self, snapshot: Snapshot) -> None:
        """Take a snapshot in, where the session computes."""


def remembered(thing: object, names: Sequence[str]) -> dict[str, Tree]:
    """The named attributes of an object: numbers, words, arrays, and lists of them."""
    return {name: as_tree(getattr(thing, name)) for name in names}


def remember(thing: object, state: Mapping[str, Tree]) -> None:
    """Set attributes to what ``remembered`` gave, in the types that they have now."""
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
        return type(now)(value)  # its own, or two that continue would share it
    return value
