"""The base of all engines: closing, ``with`` and ``async with``."""

from typing import TYPE_CHECKING

import mlx.core as mx

from ..errors import ConfigError
from .closing import Closing
from .owner import Owner
from .residency import Residency


class BaseEngine(Closing):
    """Base class of engines; their weights are freed on the thread that made them.

    Attributes:
        owner: the thread that computes.
        residency: keeps the weights in a GPU's memory.
    """

    owner: Owner
    residency: Residency | None = None
    weights: tuple[str, ...] = ("lm", "mimi", "make_codec")  # attributes to free

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """Called for attributes that do not exist."""
            kind = type(self).__name__
            if self.closed and name in self.weights:
                raise ConfigError(f"this {kind} is closed: load the model again.")
            raise AttributeError(f"{kind!r} object has no attribute {name!r}")

    def _computed_by(self) -> Owner:
        return self.owner

    def _drop(self) -> None:
        for name in self.weights:
            vars(self).pop(name, None)
        mx.clear_cache()
        if self.residency is not None:
            self.residency.release()
