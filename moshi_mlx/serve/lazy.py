"""Engines that are loaded on first use."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Lazy(Generic[T]):
    """Something that is made once, on first use.

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
        """The result of ``make``; raises its error, at every call."""
        if self.value is None:
            self._making = self._making or asyncio.Lock()
            async with self._making:
                if self.value is None:
                    self.value = await asyncio.to_thread(self._make)
        return self.value

    def load(self) -> T:
        """The same, before the server runs."""
        if self.value is None:
            self.value = self._make()
        return self.value
