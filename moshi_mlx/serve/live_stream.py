"""A row of a batch, used from asyncio: the common part of ``Ears`` and ``Voice``."""

import asyncio
from types import TracebackType
from typing import Any, Generic, TypeVar

import numpy as np

from ..engines.line import Answer
from ..engines.stt.batch import Heard, STTBatch, STTRow
from ..engines.thread import ModelThread
from ..engines.tts.batch import Spoken, TTSBatch, TTSRow
from .tally import Tally
from .tasks import post

UNHEARD_MS = 60_000  # most sound that may wait for the model
UNREAD = 375  # most replies that may wait for the client: 30 s of speech
TICK = np.zeros(0, np.float32)  # lets the model thread step the row
R = TypeVar("R", Heard, Spoken)
S = TypeVar("S", bound="LiveStream[Any]")


class LiveStream(Generic[R]):
    """A row of a batch on the model's thread, for asyncio."""

    def __init__(
        self,
        thread: ModelThread,
        batch: STTBatch | TTSBatch,
        row: STTRow | TTSRow,
        tally: Tally,
    ):
        self._loop = asyncio.get_running_loop()
        self._replies: asyncio.Queue[R | Exception] = asyncio.Queue()
        self._live_row = row
        self._tally = tally
        self._resting = self._over = False
        self._steps = 0
        self._line = thread.open(
            *(lambda: row, self._on_answer, self._on_error),
            limit_ms=UNHEARD_MS,
            full="wait",
            together=batch.step,
        )
        tally.opened()

    # On the model's thread

    def _on_answer(self, answer: Answer) -> None:
        post(self._loop, self._deliver, answer)

    def _on_error(self, error: Exception) -> None:
        post(self._loop, self._replies.put_nowait, error)

    # On the event loop

    def _deliver(self, answer: Answer) -> None:
        self._steps += 1
        self._tally.stepped(answer, not (answer.reply.more or answer.reply.ended))
        self._replies.put_nowait(answer.reply)
        self._resting = answer.reply.more and self._replies.qsize() >= UNREAD
        if answer.reply.more and not self._resting:
            self._tick()

    def _tick(self) -> None:
        if not len(self._line.queue) and not self._over:
            self._line.put(TICK)

    async def _next(self) -> R:
        reply = await self._replies.get()
        if isinstance(reply, Exception):
            raise reply
        if self._resting and self._replies.qsize() < UNREAD // 2:
            self._resting = False
            self._tick()
        return reply

    async def aclose(self) -> None:
        """Free the row, whatever waits in it; it is freed even if this is cancelled."""
        if not self._over:
            self._over = True
            self._line.close()
            self._tally.closed(self._steps)
            await asyncio.shield(asyncio.ensure_future(self._live_row.aclose()))

    async def __aenter__(self: S) -> S:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.shield(self.aclose())
