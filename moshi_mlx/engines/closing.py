"""The base of all sessions: closing, ``with`` and ``async with``."""

import asyncio
from abc import ABC, abstractmethod
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from ..errors import ConfigError, MoshiError
from .owner import Owner

S = TypeVar("S", bound="Closing")


class Closing(ABC):
    """Base class of sessions; their state is freed on the thread that made it."""

    closed = False

    def close(self) -> None:
        """Free the session's memory; it cannot be used after that."""
        if not self.closed:
            with suppress(MoshiError):  # the model may have been closed before
                self._computed_by().run(self._end)

    async def aclose(self) -> None:
        """Like ``close``, for asyncio; it is closed even if this is cancelled."""
        if not self.closed:
            with suppress(MoshiError):
                await asyncio.shield(asyncio.wrap_future(self.close_soon()))

    def close_soon(self) -> "Future[None]":
        """Like ``close``, without waiting for it."""
        return self._computed_by().call(self._end)

    @abstractmethod
    def _computed_by(self) -> Owner:
        """The thread that computes for the session."""

    @abstractmethod
    def _drop(self) -> None:
        """Free caches and everything else that is large."""

    def _end(self) -> None:
        if not self.closed:
            self._drop()
            self.closed = True

    def _check_open(self, called: str) -> None:
        """Raises: ConfigError if the session has been closed."""
        if self.closed:
            name = type(self).__name__
            raise ConfigError(f"{called}: this {name} is closed, start a new one.")

    def __enter__(self: S) -> S:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self: S) -> S:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
