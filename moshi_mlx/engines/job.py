"""Long work on the model thread, cut into steps so that live frames come first."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Condition
from typing import Any, Generic, TypeVar

import mlx.core as mx

from ..errors import MoshiError

T = TypeVar("T")
_END: Any = object()


class Job(Generic[T]):
    """An iterator that the model thread advances; made by ``ModelThread.start_job``.

    Attributes:
        done: resolved when the iterator has ended; failed if it raised.

    Args:
        jobs: the thread's.
        make: makes the iterator, on the model thread.
        on_step: called on the model thread with each value that it yields.
        ahead: number of values that may wait for ``took``; the job pauses at this
            number. None never pauses.
    """

    def __init__(
        self,
        jobs: "Jobs",
        make: Callable[[], Iterable[T]],
        on_step: Callable[[T], None],
        ahead: int | None,
    ):
        self.done: Future[None] = Future()
        self.device = mx.default_device()
        self.waiting = 0  # values not taken yet; guarded by the thread's lock
        self._jobs = jobs
        self._make: Callable[[], Iterable[T]] | None = make
        self._on_step = on_step
        self._ahead = ahead
        self._steps: Iterator[T] | None = None

    @property
    def ready(self) -> bool:
        """Whether its next step may run."""
        return self._ahead is None or self.waiting < self._ahead

    def took(self) -> None:
        """Say that one of the values has been used."""
        self._jobs.count(self, -1)

    def cancel(self) -> None:
        """End it early; the iterator is closed on the model thread."""
        if self.done.cancel():
            self._jobs.drop(self)

    # On the model thread

    def step(self) -> bool:
        """Advance by one; False when it has ended."""
        try:
            if self._steps is None and self._make is not None:
                self._steps, self._make = iter(self._make()), None
            assert self._steps is not None
            value = next(self._steps)
            self._jobs.count(self, 1)
            self._on_step(value)
        except StopIteration:
            self._finish(None)
            return False
        except BaseException as error:  # whatever it is, a caller waits for it
            self.close()
            self._finish(error)
            return False
        return True

    def close(self) -> None:
        """Let the iterator clean up."""
        steps, self._steps, self._make = self._steps, None, None
        close = getattr(steps, "close", None)
        if close is not None:
            with contextlib.suppress(Exception):  # nobody is left to hear of it
                close()

    def refuse(self) -> None:
        """Stop it because the thread stops."""
        self.close()
        self._finish(MoshiError("the model has been closed."))

    def _finish(self, error: BaseException | None) -> None:
        if not self.done.set_running_or_notify_cancel():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class Jobs:
    """All jobs of a model thread, which take turns.

    Args:
        wake: the thread's lock, and how to wake it up.
        call: runs a function on the thread.
    """

    def __init__(self, wake: Condition, call: Callable[[Callable[[], None]], Any]):
        self._wake = wake
        self._call = call
        self._row: deque[Job[Any]] = deque()

    def add(self, job: Job[Any]) -> None:
        """Add a job at the end; the caller holds the lock."""
        if not job.done.cancelled():
            self._row.append(job)

    def count(self, job: Job[Any], values: int) -> None:
        """Note that more, or fewer, values wait to be taken."""
        with self._wake:
            job.waiting += values
            self._wake.notify()

    def drop(self, job: Job[Any]) -> None:
        """Forget a job that was cancelled."""
        with self._wake:
            if job in self._row:
                self._row.remove(job)
        self._call(job.close)

    @property
    def waiting(self) -> bool:
        """Whether one can run; the caller holds the lock."""
        return any(job.ready for job in self._row)

    def take(self) -> Job[Any] | None:
        """Take the next job; the caller holds the lock."""
        job = next((job for job in self._row if job.ready), None)
        if job is not None:
            self._row.remove(job)
        return job

    def end(self) -> list[Job[Any]]:
        """All remaining jobs; the caller holds the lock."""
        left, self._row = list(self._row), deque()
        return left


Start = Callable[[Callable[[T], None]], Job[T]]


def iterate(start: Start[T]) -> Iterator[T]:
    """The values of a job, on the caller's thread; leaving the loop cancels it.

    Args:
        start: starts the job, given its ``on_step``.
    """
    inbox: SimpleQueue[T] = SimpleQueue()
    job = start(inbox.put)
    job.done.add_done_callback(lambda _: inbox.put(_END))
    try:
        while (value := inbox.get()) is not _END:
            job.took()
            yield value
        job.done.result()
    finally:
        job.cancel()


async def aiterate(start: Start[T]) -> AsyncIterator[T]:
    """Like ``iterate``, for asyncio."""
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue[T] = asyncio.Queue()

    def post(value: T) -> None:
        loop.call_soon_threadsafe(inbox.put_nowait, value)

    def post_end(_: Future[None]) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has been closed
            post(_END)

    job = start(post)
    job.done.add_done_callback(post_end)
    try:
        while (value := await inbox.get()) is not _END:
            job.took()
            yield value
        job.done.result()
    finally:
        job.cancel()
