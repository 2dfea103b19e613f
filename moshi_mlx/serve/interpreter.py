"""One client's speech, translated into another language while it is said."""

import asyncio
from collections.abc import AsyncIterator

from ..audio.framing import Framer
from ..audio.samples import Pcm
from ..engines.duplex.batch import Batch
from ..engines.duplex.reply import Reply
from ..engines.duplex.session import DuplexSession
from ..engines.line import Answer
from ..engines.thread import ModelThread
from .live_stream import UNHEARD_MS
from .tasks import post


class Interpreter:
    """A row of a translating model's batch: put sound in, iterate over its replies.

    A row is stepped together with the others that have sound. ``aclose`` frees it.

    Args:
        thread: steps the row.
        batch: the row's batch.
        session: the row.
    """

    def __init__(self, thread: ModelThread, batch: Batch, session: DuplexSession):
        self._loop = asyncio.get_running_loop()
        self._session = session
        self._framer = Framer()
        self._replies: asyncio.Queue[Reply | Exception | None] = asyncio.Queue()
        self._given = 0  # frames without a reply so far
        self._finished = self._over = False
        self._line = thread.open(
            *(lambda: session, self._on_answer, self._on_error),
            limit_ms=UNHEARD_MS,
            full="wait",
            together=batch.step,
        )

    # On the model's thread

    def _on_answer(self, answer: Answer) -> None:
        post(self._loop, self._deliver, answer.reply)

    def _on_error(self, error: Exception) -> None:
        post(self._loop, self._replies.put_nowait, error)

    # On the event loop

    def _deliver(self, reply: Reply) -> None:
        self._given -= 1
        self._replies.put_nowait(reply)
        self._tell_end()

    def _tell_end(self) -> None:
        if self._finished and not self._given:
            self._replies.put_nowait(None)

    async def put(self, pcm: Pcm) -> None:
        """Take samples ``[S]`` of 24 kHz; waits if a minute of sound is waiting."""
        for frame in self._framer.push(pcm):
            await self._give(frame)

    async def finish(self) -> None:
        """End the sound: the iteration ends with the last word."""
        if self._finished:
            return
        if (rest := self._framer.flush()) is not None:
            await self._give(rest)
        self._finished = True
        self._tell_end()

    async def _give(self, frame: Pcm) -> None:
        if not self._finished:
            self._given += 1
            await self._line.aput(frame)

    async def __aiter__(self) -> AsyncIterator[Reply]:
        while (reply := await self._replies.get()) is not None:
            if isinstance(reply, Exception):
                raise reply
            yield reply
        async for last in self._session.aflush():
            yield last

    async def aclose(self) -> None:
        """Free the row; it is freed even if this is cancelled."""
        if not self._over:
            self._over = True
            self._line.close()
            await self._session.aclose()
