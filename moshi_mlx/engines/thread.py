"""The thread that owns MLX: every engine computes on it, whoever calls.

An MLX array that is not computed yet belongs to the thread that made it. So an engine
lives on one thread from load to exit, and only NumPy arrays and text leave it. One
thread serves the whole process (``owner.model_thread``). It runs

- calls: one function each, run between two frames (``run``, ``arun``, ``call``);
- lines: live conversations, one frame of each per round (``open``);
- jobs: long work in steps, which live frames overtake (``iterate``, ``start_job``, and
  calls with ``live=False``).
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

import mlx.core as mx

from ..errors import MoshiError
from . import job, process
from .job import Job, Jobs
from .line import Answer, Line, Lines, Session, StepAll, use
from .queue import FrameQueue, Full

_log = logging.getLogger(__name__)

R = TypeVar("R")
T = TypeVar("T")
_here = threading.local()
AHEAD = 4  # values of a job that may wait for the loop over it


class _Call(Generic[R]):
    """A function that waits for the model thread, and its result."""

    def __init__(self, function: Callable[[], R]):
        self.future: Future[R] = Future()
        self._function = function
        self._device = mx.default_device()

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        use(self._device)
        try:
            self.future.set_result(self._function())
        except BaseException as error:  # SystemExit too: the caller gets it
            self.future.set_exception(error)

    def refuse(self) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(MoshiError("the model has been closed."))


class ModelThread:
    """Runs calls, frames and jobs, live frames first; sleeps while there is nothing to
    do.

    It runs from its creation until ``close``, or the end of the process. Its methods
    may be called from any thread; on its own, ``run`` and ``iterate`` work directly.
    """

    def __init__(self) -> None:
        process.check()
        self._wake = threading.Condition()
        self._calls: deque[_Call[Any]] = deque()
        self._later: deque[_Call[Any]] = deque()  # not live: they wait like jobs
        self._lines = Lines(self._wake)
        self._jobs = Jobs(self._wake, self.call)
        self._jobs_turn = False
        self._idle: dict[Callable[[], None], float] = {}
        self._closing = False
        self._thread = threading.Thread(
            target=self._serve, name="moshi-model", daemon=True
        )
        process.watch(self)
        self._thread.start()

    @staticmethod
    def current() -> "ModelThread | None":
        """The model thread that the caller is on, if any."""
        return getattr(_here, "thread", None)

    @property
    def is_current(self) -> bool:
        """Whether the caller is on this thread."""
        return ModelThread.current() is self

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._thread.is_alive()

    @property
    def closing(self) -> bool:
        """Whether it takes no more work."""
        return self._closing

    def call(self, function: Callable[[], R], *, live: bool = True) -> "Future[R]":
        """Run ``function()`` on this thread, between two frames.

        Args:
            live: the caller needs it in real time. If false, as for a file, it runs
                when no live call and no frame waits, in turns with the jobs.
        """
        process.check()
        call = _Call(function)
        with self._wake:
            if not self._closing:
                (self._calls if live else self._later).append(call)
                self._wake.notify()
                return call.future
        call.refuse()
        return call.future

    def run(self, function: Callable[[], R], *, live: bool = True) -> R:
        """The result of ``function()``, run on this thread; raises what it raises."""
        if self.is_current:
            return function()
        return self.call(function, live=live).result()

    async def arun(self, function: Callable[[], R], *, live: bool = True) -> R:
        """Like ``run``, for asyncio: the event loop continues meanwhile."""
        return await asyncio.wrap_future(self.call(function, live=live))

    def open(
        self,
        make: Callable[[], Session],
        on_answer: Callable[[Answer], None],
        on_error: Callable[[Exception], None] | None = None,
        *,
        limit_ms: float = 480,
        calm_ms: float = 160,
        full: Full = "drop",
        together: StepAll | None = None,
    ) -> Line:
        """A line for a new conversation.

        Args:
            make: makes the session, on this thread, before its first frame.
            on_answer: called on this thread after every frame; must return at once.
            on_error: called on this thread if the session failed; the line is then
                closed, and the other lines are not affected. By default the error is
                logged.
            limit_ms, calm_ms, full: as in ``FrameQueue``.
            together: steps several sessions at once, ``(sessions, frames) -> replies``;
                lines with the same function (a batch's method) share a call.
        """
        process.check()
        queue = FrameQueue(limit_ms, calm_ms, full)
        line = Line(
            *(self._lines, self.call, make, on_answer, on_error or _log_error),
            queue,
            together,
        )
        with self._wake:
            self._check_open()
            self._lines.add(line)
            self._wake.notify()  # it may have to keep the GPU awake from now on
        return line

    def start_job(
        self,
        make: Callable[[], Iterable[T]],
        on_step: Callable[[T], None],
        ahead: int | None = None,
    ) -> Job[T]:
        """Long work: an iterator that yields after each step. See ``Job``.

        A step runs when no call and no frame waits; several jobs take turns. The
        iterator must wait for nothing but the model.
        """
        process.check()
        new = Job(self._jobs, make, on_step, ahead)
        with self._wake:
            self._check_open()
            self._jobs.add(new)
            self._wake.notify()
        return new

    def iterate(
        self, make: Callable[[], Iterable[T]], ahead: int = AHEAD
    ) -> Iterator[T]:
        """The values of a job, on the caller's thread; leaving the loop cancels it.

        The job runs at most ``ahead`` steps ahead of the loop.
        """
        if self.is_current:
            return iter(make())
        return job.iterate(lambda on_step: self.start_job(make, on_step, ahead))

    def aiterate(
        self, make: Callable[[], Iterable[T]], ahead: int = AHEAD
    ) -> AsyncIterator[T]:
        """Like ``iterate``, for asyncio."""
        return job.aiterate(lambda on_step: self.start_job(make, on_step, ahead))

    def when_idle(
        self, function: Callable[[], None], after_s: float
    ) -> Callable[[], None]:
        """Run ``function()`` here while a conversation is open but has nothing to do.

        Args:
            after_s: seconds without work before each run.

        Returns: a function that stops this.
        """
        with self._wake:
            self._idle[function] = after_s
            self._wake.notify()

        def stop() -> None:
            with self._wake:
                self._idle.pop(function, None)

        return stop

    def close(self, timeout: float | None = 10) -> None:
        """Finish the current step, then stop; waiting work gets an error."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if not self.is_current:
            self._thread.join(timeout)

    def _check_open(self) -> None:
        if self._closing:
            raise MoshiError("the model has been closed: it takes no more work.")

    # On this thread

    def _serve(self) -> None:
        _here.thread = self
        try:
            while self._round():
                pass
        except BaseException:
            _log.exception("the model's thread has failed and takes no more work")
        finally:
            self._end()
            _clear_streams()

    def _round(self) -> bool:
        """Run one call and a frame of every line, or else one step of a job."""
        with self._wake:
            idle: list[Callable[[], None]] = []
            while not (self._closing or self._has_work() or idle):
                if not self._wake.wait(self._patience()):
                    idle = list(self._idle)
            if self._closing:
                return False
            call = self._calls.popleft() if self._calls else None
        for function in idle:
            self._run_idle(function)
        if call is not None:
            call.run()
        with self._wake:  # frames that came during the call are next
            work = self._lines.take()
            turn = None if call or work else self._take_turn()
        if work:
            self._lines.step(work)
        if isinstance(turn, _Call):
            turn.run()
        elif turn is not None:
            use(turn.device)
            if turn.step():
                with self._wake:
                    self._jobs.add(turn)
        return True

    def _patience(self) -> float | None:
        """Seconds to wait for work; None for no limit."""
        if not self._idle or not self._lines.any_open:
            return None
        return min(self._idle.values())

    def _run_idle(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception:
            _log.exception("what runs while a model is idle failed, and is left out")
            with self._wake:
                self._idle.pop(function, None)

    def _take_turn(self) -> "_Call[Any] | Job[Any] | None":
        """A call that is not live, or a job: in turns if both wait."""
        self._jobs_turn = not self._jobs_turn
        if self._later and not (self._jobs_turn and self._jobs.waiting):
            return self._later.popleft()
        return self._jobs.take()

    def _has_work(self) -> bool:
        return (
            bool(self._calls)
            or bool(self._later)
            or self._lines.waiting
            or self._jobs.waiting
        )

    def _end(self) -> None:
        """Nothing more will run: give all waiting work an error."""
        with self._wake:
            self._closing = True
            self._lines.end()
            calls = [*self._calls, *self._later]
            self._calls.clear()
            self._later.clear()
            jobs = self._jobs.end()
        for waiting in [*calls, *jobs]:
            waiting.refuse()


def _clear_streams() -> None:
    """Stop the threads that MLX made for this one: the process aborts at exit if one of
    them still runs (0.32.4)."""
    if hasattr(mx, "clear_streams"):
        mx.synchronize()
        mx.clear_streams()


def _log_error(error: Exception) -> None:
    _log.error("a conversation ended with an error", exc_info=error)
