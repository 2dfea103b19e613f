"""Engines that are loaded on first need, and how many live rows this machine holds."""

import asyncio
import logging
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from ..audio.framing import FRAME_MS

T = TypeVar("T")
_log = logging.getLogger(__name__)

BUDGET_S = 0.8 * FRAME_MS / 1000  # for a full step: the rest is for everything else


class Lazy(Generic[T]):
    """Something that is made once, when it is first needed.

    Args:
        name: of the model, known before it is loaded.
        make: loads it; runs in a thread that may wait.
    """

    def __init__(self, name: str, make: Callable[[], T]):
        self.name = name
        self._make = make
        self._making: asyncio.Lock | None = None
        self.value: T | None = None

    async def get(self) -> T:
        """The thing itself; raises what ``make`` raises, at every call."""
        if self.value is None:
            self._making = self._making or asyncio.Lock()
            async with self._making:
                if self.value is None:
                    self.value = await asyncio.to_thread(self._make)
        return self.value

    def load(self) -> T:
        """The same before the server runs."""
        if self.value is None:
            self.value = self._make()
        return self.value


class Warmable(Protocol):
    """A batch of live rows."""

    rows: int

    def warmup(self) -> float: ...
    def close(self) -> None: ...


B = TypeVar("B", bound=Warmable)


def fitting(make: Callable[[int], B], most: int, what: str) -> B:
    """The largest batch, of at most ``most`` rows, whose full step fits a frame.

    A batch of one row is kept even where it does not, with a warning.
    """
    rows = max(most, 1)
    while True:
        batch = make(rows)
        step_s = batch.warmup()
        if step_s <= BUDGET_S or rows == 1:
            break
        batch.close()
        rows = max(1, min(rows - 1, int(rows * BUDGET_S / step_s)))
    words = "%s: %d places, a full step takes %.0f ms"
    level = logging.INFO if 1000 * step_s <= FRAME_MS else logging.WARNING
    _log.log(level, words, what, rows, 1000 * step_s)
    return batch
