"""The one thread that touches MLX, and the lines by which conversations reach it.

An MLX array made on one thread cannot be evaluated on another, so the model lives on a
``ModelThread`` from load to exit and only NumPy arrays cross its edge::

    thread = ModelThread(lambda: moshi_mlx.load("demo"))
    thread.start()
    thread.wait_ready()  # raises what the load raised
    line = thread.open(lambda moshi: moshi.session(first="silence"), on_answer)
    line.put(frame)  # from any thread; on_answer(Answer) is called on the model's
    thread.close()
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..errors import MoshiError
from .queue import Dropped, FrameQueue, Waiting

_log = logging.getLogger(__name__)

M = TypeVar("M")  # the model
R = TypeVar("R")
Frame = NDArray[np.float32]


class Session(Protocol):
    """One conversation: chat.session.DuplexSession, or anything that steps like it."""

    def step(self, frame: Frame) -> Any: ...


@dataclass(frozen=True)
class Answer:
    """What the model made of one frame; times are seconds of ``time.perf_counter``.

    Attributes:
        frame: what it heard, float32 ``[1920]``.
        reply: what the session's ``step`` returned.
        heard_at: when the frame's last sample was there.
        began_at: when the model took it.
        done_at: when the reply was ready.
        dropped: the user's frames that were left out so far.
    """

    frame: Frame
    reply: Any
    heard_at: float
    began_at: float
    done_at: float
    dropped: Dropped

    @property
    def lag_s(self) -> float:
        """From the frame's last sample to the reply: waiting and computing."""
        return self.done_at - self.heard_at

    @property
    def step_s(self) -> float:
        """Computing alone."""
        return self.done_at - self.began_at


class _Task(Generic[M, R]):
    """A function that waits for the model thread, and its result."""

    def __init__(self, function: Callable[[M], R]):
        self.future: Future[R] = Future()
        self._function = function

    def run(self, model: M) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self._function(model))
        except Exception as error:
            self.future.set_exception(error)

    def refuse(self) -> None:
        self.future.set_exception(MoshiError("the model has been closed."))


class Line(Generic[M]):
    """One conversation's way to the model thread; opened by ``ModelThread.open``."""

    def __init__(
        self,
        thread: "ModelThread[M]",
        make: Callable[[M], Session],
        on_answer: Callable[[Answer], None],
        on_error: Callable[[Exception], None],
        queue: FrameQueue,
    ):
        self.make = make
        self.session: Session | None = None  # touched by the model thread only
        self.queue = queue  # guarded by the thread's lock
        self.on_answer = on_answer
        self.on_error = on_error
        self._thread = thread

    def put(self, frame: Frame, heard_at: float | None = None) -> None:
        """Hand over a frame, at once; a full queue drops by ``FrameQueue``'s rules."""
        heard_at = time.perf_counter() if heard_at is None else heard_at
        self._thread.submit(self, np.array(frame, dtype=np.float32), heard_at)

    def restart(self, make: Callable[[M], Session] | None = None) -> "Future[None]":
        """Forget the conversation and what waits; the next frame starts a new one."""

        def renew(model: M) -> None:
            self.queue.clear()
            self.make = self.make if make is None else make
            self.session = self.make(model)

        return self._thread.call(renew)

    def close(self) -> None:
        """End the conversation. Answers may still come until this returns."""
        self._thread.remove(self)

    @property
    def waiting_ms(self) -> float:
        """Sound that waits for the model."""
        return self.queue.waiting_ms


class ModelThread(threading.Thread, Generic[M]):
    """Loads a model, then steps every conversation that has a frame waiting.

    It sleeps while there is nothing to do. Of all lines with a frame waiting each gets
    one step a round, so that none starves.

    Args:
        load: makes the model (weights, warm-up), on this thread.
        step_all: steps several sessions at once, ``(sessions, frames) -> replies``;
            by default one after another.
    """

    def __init__(
        self,
        load: Callable[[], M],
        step_all: Callable[[Sequence[Any], Sequence[Frame]], Sequence[Any]]
        | None = None,
    ):
        super().__init__(name="moshi-model", daemon=True)
        self._load = load
        self._step_all = step_all
        self._loaded: Future[None] = Future()
        self._wake = threading.Condition()
        self._tasks: deque[_Task[M, Any]] = deque()
        self._lines: list[Line[M]] = []
        self._closing = False

    # From any thread

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until the model is loaded; raises what the load raised."""
        try:
            self._loaded.result(timeout)
        finally:
            if self._loaded.done() and self._loaded.exception() is not None:
                self.join()  # a program that ends before its threads do aborts

    def call(self, function: Callable[[M], R]) -> "Future[R]":
        """Run ``function(model)`` on this thread, between two frames."""
        task = _Task(function)
        with self._wake:
            if self._closing:
                task.refuse()
            else:
                self._tasks.append(task)
                self._wake.notify()
        return task.future

    def open(
        self,
        make: Callable[[M], Session],
        on_answer: Callable[[Answer], None],
        on_error: Callable[[Exception], None] | None = None,
        *,
        limit_ms: float = 480,
        calm_ms: float = 160,
    ) -> Line[M]:
        """A line for a new conversation.

        Args:
            make: makes the session from the model, on this thread.
            on_answer: called on this thread after every frame; must return at once.
            on_error: called on this thread when the session failed; the line is closed
                then, other lines are not touched. By default the error is logged.
            limit_ms, calm_ms: as in ``FrameQueue``.
        """
        queue = FrameQueue(limit_ms, calm_ms)
        line = Line(self, make, on_answer, on_error or _log_error, queue)
        with self._wake:
            if self._closing:
                raise MoshiError("the model has been closed: no more conversations.")
            self._lines.append(line)
        return line

    def submit(self, line: Line[M], frame: Frame, heard_at: float) -> None:
        """What ``Line.put`` does; frames for a closed line vanish."""
        with self._wake:
            if line in self._lines:
                line.queue.put(frame, heard_at)
                self._wake.notify()

    def remove(self, line: Line[M]) -> None:
        """What ``Line.close`` does."""
        with self._wake:
            if line in self._lines:
                self._lines.remove(line)
            line.queue.clear()

    def close(self, timeout: float | None = 10) -> None:
        """Finish the frame at hand, then end; what still waits is forgotten."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self.is_alive() and threading.current_thread() is not self:
            self.join(timeout)

    @property
    def closing(self) -> bool:
        """Whether no more work is taken."""
        return self._closing

    # On this thread

    def run(self) -> None:
        try:
            self._serve()
        finally:
            _clear_streams()

    def _serve(self) -> None:
        try:
            model = self._load()
        except BaseException as error:
            self._loaded.set_exception(error)
            self._end()
            return
        self._loaded.set_result(None)
        while self._round(model):
            pass
        self._end()

    def _round(self, model: M) -> bool:
        """One task, or one frame of every line that has one; False at the end."""
        with self._wake:
            while not (self._closing or self._tasks or self._any_waiting()):
                self._wake.wait()
            if self._closing:
                return False
            task = self._tasks.popleft() if self._tasks else None
            work = [] if task else self._take_frames()
        if task is not None:
            task.run(model)
        else:
            self._step(model, work)
        return True

    def _any_waiting(self) -> bool:
        return any(len(line.queue) for line in self._lines)

    def _take_frames(self) -> list[tuple[Line[M], Waiting]]:
        return [(line, line.queue.get()) for line in self._lines if len(line.queue)]

    def _step(self, model: M, work: list[tuple[Line[M], Waiting]]) -> None:
        if self._step_all is not None:
            self._step_group(model, work, self._step_all)
            return
        for line, waiting in work:
            self._step_group(model, [(line, waiting)], _step_each)

    def _step_group(
        self,
        model: M,
        work: list[tuple[Line[M], Waiting]],
        step_all: Callable[[Sequence[Any], Sequence[Frame]], Sequence[Any]],
    ) -> None:
        began_at = time.perf_counter()
        work = [pair for pair in work if self._prepare(model, pair[0])]
        if not work:
            return
        try:
            replies = step_all(
                [line.session for line, _ in work],
                [waiting.frame for _, waiting in work],
            )
        except Exception as error:
            for line, _ in work:
                self._fail(line, error)
            return
        done_at = time.perf_counter()
        for (line, waiting), reply in zip(work, replies, strict=True):
            dropped = Dropped(line.queue.dropped.silent, line.queue.dropped.spoken)
            answer = Answer(
                *(waiting.frame, reply, waiting.heard_at, began_at, done_at, dropped)
            )
            try:
                line.on_answer(answer)
            except Exception as error:
                self._fail(line, error)

    def _prepare(self, model: M, line: Line[M]) -> bool:
        """Make the line's session before its first frame; False where that failed."""
        if line.session is None:
            try:
                line.session = line.make(model)
            except Exception as error:
                self._fail(line, error)
                return False
        return True

    def _fail(self, line: Line[M], error: Exception) -> None:
        self.remove(line)
        try:
            line.on_error(error)
        except Exception:
            _log.exception("the handler of a conversation's error failed")

    def _end(self) -> None:
        """Nothing will run any more: say so to whoever waits."""
        with self._wake:
            self._closing = True
            self._lines.clear()
            tasks, self._tasks = self._tasks, deque()
        for task in tasks:
            task.refuse()


def _clear_streams() -> None:
    """End MLX's own threads of this one: at exit, one still running aborts (0.32.4)."""
    if hasattr(mx, "clear_streams"):
        mx.synchronize()
        mx.clear_streams()


def _step_each(sessions: Sequence[Any], frames: Sequence[Frame]) -> Sequence[Any]:
    return [
        session.step(frame) for session, frame in zip(sessions, frames, strict=True)
    ]


def _log_error(error: Exception) -> None:
    _log.error("a conversation ended with an error", exc_info=error)
