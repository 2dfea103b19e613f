"""Which thread computes for an engine: the process's model thread, or the caller's."""

import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Protocol, TypeVar

from .thread import ModelThread

R = TypeVar("R")
T = TypeVar("T")

_lock = threading.Lock()
_shared: ModelThread | None = None


class Owner(Protocol):
    """The thread that an engine computes on."""

    def call(self, function: Callable[[], R], *, live: bool = True) -> "Future[R]":
        """Run ``function()`` there; the future gets its result.

        Args:
            live: run it before all work on files.
        """
        ...

    def run(self, function: Callable[[], R], *, live: bool = True) -> R:
        """Run ``function()`` there and wait for its result."""
        ...

    async def arun(self, function: Callable[[], R], *, live: bool = True) -> R:
        """Like ``run``, for asyncio."""
        ...

    def iterate(self, make: Callable[[], Iterable[T]]) -> Iterator[T]:
        """The values of ``make()``, iterated over there, step by step."""
        ...

    def aiterate(self, make: Callable[[], Iterable[T]]) -> AsyncIterator[T]:
        """Like ``iterate``, for asyncio."""
        ...


class CallersThread:
    """No thread of its own: computes on the caller's.

    For engines that a program builds itself from an ``Lm`` and a ``Mimi``, as with
    moshi_mlx 0.3.0: their arrays belong to that program's thread.
    """

    def call(self, function: Callable[[], R], *, live: bool = True) -> "Future[R]":  # noqa: ARG002
        future: Future[R] = Future()
        try:
            future.set_result(function())
        except Exception as error:
            future.set_exception(error)
        return future

    def run(self, function: Callable[[], R], *, live: bool = True) -> R:  # noqa: ARG002
        return function()

    async def arun(self, function: Callable[[], R], *, live: bool = True) -> R:  # noqa: ARG002
        return function()

    def iterate(self, make: Callable[[], Iterable[T]]) -> Iterator[T]:
        yield from make()

    async def aiterate(self, make: Callable[[], Iterable[T]]) -> AsyncIterator[T]:
        for value in make():
            yield value


HERE = CallersThread()


def model_thread() -> ModelThread:
    """The thread on which ``load`` builds an engine, and which computes for it.

    There is one per process; on a model thread, it is that very thread.
    """
    global _shared
    current = ModelThread.current()
    if current is not None:
        return current
    with _lock:
        if _shared is None or _shared.closing:
            _shared = ModelThread()
        return _shared
