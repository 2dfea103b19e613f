"""Live conversations on the model thread: frames in, answers out."""

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Condition
from typing import Any, Protocol

import mlx.core as mx
import numpy as np

from ..audio.samples import Pcm
from .queue import Dropped, FrameQueue, Waiting

_log = logging.getLogger(__name__)

StepAll = Callable[[Sequence[Any], Sequence[Pcm]], Sequence[Any]]


class Session(Protocol):
    """Anything that takes a frame and returns a reply."""

    def step(self, frame: Pcm, /) -> Any: ...


@dataclass(frozen=True)
class Answer:
    """A reply with its times, in seconds of ``time.perf_counter``.

    Attributes:
        frame: what it heard, float32 ``[1920]``.
        reply: what the session's ``step`` returned.
        heard_at: when the frame's last sample arrived.
        began_at: when the model started on it.
        done_at: when the reply was ready.
        dropped: the user's frames that have been dropped so far.
    """

    frame: Pcm
    reply: Any
    heard_at: float
    began_at: float
    done_at: float
    dropped: Dropped

    @property
    def lag_s(self) -> float:
        """Time from the frame's last sample to the reply: waiting and computing."""
        return self.done_at - self.heard_at

    @property
    def step_s(self) -> float:
        """Time of the computation alone."""
        return self.done_at - self.began_at


class Line:
    """One conversation's access to the model thread; made by ``ModelThread.open``.

    Args:
        lines: the thread's.
        call: runs a function on the thread.

    The others are explained in ``ModelThread.open``.
    """

    def __init__(
        self,
        lines: "Lines",
        call: Callable[[Callable[[], None]], "Future[None]"],
        make: Callable[[], Session],
        on_answer: Callable[[Answer], None],
        on_error: Callable[[Exception], None],
        queue: FrameQueue,
        together: StepAll | None,
    ):
        self.make = make
        self.session: Session | None = None  # used on the model thread only
        self.queue = queue  # guarded by the thread's lock, as ``room``
        self.room: list[Future[None]] = []  # of those who wait for it
        self.on_answer = on_answer
        self.on_error = on_error
        self.together = together
        self.device = mx.default_device()
        self._lines = lines
        self._call = call

    def put(self, frame: Pcm, heard_at: float | None = None) -> None:
        """Queue a frame ``[1920]``; it is copied.

        If the line was opened with ``full="wait"``, this waits for room.

        Args:
            heard_at: when its last sample arrived; now by default.
        """
        frame = np.array(frame, dtype=np.float32)
        at = time.perf_counter() if heard_at is None else heard_at
        while (room := self._lines.submit(self, frame, at)) is not None:
            room.result()

    async def aput(self, frame: Pcm, heard_at: float | None = None) -> None:
        """Like ``put``, for asyncio."""
        frame = np.array(frame, dtype=np.float32)
        at = time.perf_counter() if heard_at is None else heard_at
        while (room := self._lines.submit(self, frame, at)) is not None:
            await asyncio.wrap_future(room)

    def restart(self, make: Callable[[], Session] | None = None) -> "Future[None]":
        """Forget the conversation and waiting frames; the next frame starts a new one.

        The future is done once the new session is made.
        """

        def renew() -> None:
            self._lines.clear(self)
            self.make = self.make if make is None else make
            self.session = self.make()

        return self._call(renew)

    def close(self) -> None:
        """End the conversation. Answers may still come until this returns."""
        self._lines.remove(self)

    @property
    def waiting_ms(self) -> float:
        """Sound that waits for the model."""
        return self.queue.waiting_ms


Work = list[tuple[Line, Waiting]]


class Lines:
    """All lines of a model thread.

    Args:
        wake: the thread's lock, and how to wake it up.
    """

    def __init__(self, wake: Condition):
        self._wake = wake
        self._open: list[Line] = []

    @property
    def any_open(self) -> bool:
        """Whether there is a conversation, silent or not."""
        return bool(self._open)

    # From any thread

    def add(self, line: Line) -> None:
        """Add a line; the caller holds the lock."""
        self._open.append(line)

    def submit(self, line: Line, frame: Pcm, heard_at: float) -> "Future[None] | None":
        """Queue a frame; frames for a closed line are dropped.

        Returns: None, or a future that resolves when there may be room for the frame.
        """
        with self._wake:
            if line not in self._open:
                return None
            if not line.queue.has_room:
                line.room.append(Future())
                return line.room[-1]
            line.queue.put(frame, heard_at)
            self._wake.notify()
        return None

    def clear(self, line: Line) -> None:
        """Drop the frames that wait in a line."""
        with self._wake:
            line.queue.clear()
            _tell_of_room(line)

    def remove(self, line: Line) -> None:
        """Close a line."""
        with self._wake:
            if line in self._open:
                self._open.remove(line)
            line.queue.clear()
            _tell_of_room(line)

    # On the model thread

    @property
    def waiting(self) -> bool:
        """Whether a frame waits; the caller holds the lock."""
        return any(len(line.queue) for line in self._open)

    def take(self) -> Work:
        """The oldest frame of every line that has one; the caller holds the lock."""
        work = [(line, line.queue.get()) for line in self._open if len(line.queue)]
        for line, _ in work:
            _tell_of_room(line)
        return work

    def step(self, work: Work) -> None:
        """Step the sessions of some lines, those of a group together, and reply."""
        groups: dict[Hashable, Work] = {}
        for pair in work:
            groups.setdefault(pair[0].together or id(pair[0]), []).append(pair)
        for group in groups.values():
            self._step_group(group)

    def end(self) -> None:
        """Close them all; the caller holds the lock."""
        for line in self._open:
            _tell_of_room(line)
        self._open.clear()

    def _step_group(self, work: Work) -> None:
        began_at = time.perf_counter()
        use(work[0][0].device)
        work = [pair for pair in work if self._prepare(pair[0])]
        if not work:
            return
        step_all = work[0][0].together or _step_each
        try:
            replies = step_all(
                [line.session for line, _ in work],
                [waiting.frame for _, waiting in work],
            )
            answered = list(zip(work, replies, strict=True))
        except Exception as error:
            for line, _ in work:
                self._fail(line, error)
            return
        done_at = time.perf_counter()
        for (line, waiting), reply in answered:
            dropped = Dropped(line.queue.dropped.silent, line.queue.dropped.spoken)
            answer = Answer(
                *(waiting.frame, reply, waiting.heard_at, began_at, done_at, dropped)
            )
            try:
                line.on_answer(answer)
            except Exception as error:
                self._fail(line, error)

    def _prepare(self, line: Line) -> bool:
        """Make the line's session before its first frame; False if that failed."""
        if line.session is None:
            try:
                line.session = line.make()
            except Exception as error:
                self._fail(line, error)
                return False
        return True

    def _fail(self, line: Line, error: Exception) -> None:
        self.remove(line)
        try:
            line.on_error(error)
        except Exception:
            _log.exception("the handler of a conversation's error failed")


def use(device: mx.Device) -> None:
    """Compute on the device that the caller had chosen."""
    if mx.default_device() != device:
        mx.set_default_device(device)


def _tell_of_room(line: Line) -> None:
    waiting, line.room = line.room, []
    for room in waiting:
        if room.set_running_or_notify_cancel():
            room.set_result(None)


def _step_each(sessions: Sequence[Any], frames: Sequence[Pcm]) -> Sequence[Any]:
    return [
        session.step(frame) for session, frame in zip(sessions, frames, strict=True)
    ]
