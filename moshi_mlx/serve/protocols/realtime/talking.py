"""A session's conversation with Moshi: sound in, replies out."""

import asyncio
import contextlib
from collections import deque

from ....audio.framing import Framer
from ....audio.samples import Pcm
from ....engines.duplex.batch import Batch
from ....engines.duplex.persona import Start
from ....engines.duplex.reply import Reply
from ....engines.duplex.sampling import Sampling
from ....engines.duplex.session import DuplexSession
from ....engines.line import Answer
from ....errors import MoshiError, NoPlace, NotServed, ProtocolError
from ....utils.sampling import new_seed
from ...personas import MAX_TEXT
from ...service import Service
from ...tasks import post
from ..moshi.talk import CALM_MS

_GRACE_S = 1.0  # to wait for a place: somebody may just be leaving


class MoshiTalk:
    """A row of Moshi's batch; ``begin`` takes it and ``end`` frees it.

    Args:
        service: the service with the batch.
        model: the client's name for the model: an adapter's name chooses the adapter,
            and any other name is the model as it is.
        instructions: the persona that the client wants, if the model takes one.
        voice: likewise; the server chooses if the model does not know it.
    """

    def __init__(
        self,
        service: Service,
        model: str = "",
        instructions: str = "",
        voice: str = "",
    ):
        self._service = service
        self._adapter = model if model in service.adapters else None
        self._instructions, self._voice = instructions, voice
        self._start: Start | None = None
        self._loop = asyncio.get_running_loop()
        self._framer = Framer()
        self._replies: deque[Reply | Exception] = deque()
        self._something = asyncio.Event()
        self._session: DuplexSession | None = None
        self._line = None
        self._placed = False

    @property
    def _batch(self) -> Batch:
        if self._service.batch is None:
            raise NotServed("this server has no model to talk with.")
        return self._service.batch

    async def begin(self) -> None:
        """Take a place. Raises: NoPlace, NotServed."""
        batch, lobby = self._batch, self._service.lobby

        async def tell(_place: int) -> None:
            pass

        try:
            await lobby.enter(tell, patience_s=_GRACE_S)
        except asyncio.TimeoutError:
            words = f"all {lobby.places} places are taken: try again later."
            raise NoPlace(words) from None
        self._placed = True
        self._start = await asyncio.to_thread(self._beginning)
        self._line = self._service.thread.open(
            *(self._make, self._on_answer, self._on_error),
            limit_ms=self._service.limits.waiting_ms,
            calm_ms=CALM_MS,
            together=batch.step,
        )
        await asyncio.wrap_future(self._line.restart())

    def _beginning(self) -> Start | None:
        """Prepare the start of the conversation. Raises: ProtocolError."""
        personas = self._service.personas
        if personas is None:
            return None
        known = self._voice in personas.voices
        return personas.start(
            self._instructions[:MAX_TEXT] or None, self._voice if known else None
        )

    # On the model's thread

    def _make(self) -> DuplexSession:
        if self._session is not None:
            self._session.close()
        self._session = self._batch.open(
            Sampling(seed=new_seed()), start=self._start, adapter=self._adapter
        )
        return self._session

    def _on_answer(self, answer: Answer) -> None:
        post(self._loop, self._deliver, answer)

    def _on_error(self, error: Exception) -> None:
        post(self._loop, self._queue, error)

    # On the event loop

    def _deliver(self, answer: Answer) -> None:
        self._service.count(answer)
        if len(self._replies) >= 2 * self._service.limits.unsent_frames:
            self._queue(ProtocolError("the client does not read what Moshi says."))
        else:
            self._queue(answer.reply)

    def _queue(self, what: Reply | Exception) -> None:
        self._replies.append(what)
        self._something.set()

    def put(self, pcm: Pcm) -> None:
        """Take samples ``[S]`` of 24 kHz."""
        assert self._line is not None
        for frame in self._framer.push(pcm):
            self._line.put(frame)
            self._service.metrics.frames.add("heard")

    async def next(self) -> Reply:
        """The next reply; raises errors of the conversation."""
        while not self._replies:
            self._something.clear()
            await self._something.wait()
        reply = self._replies.popleft()
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def end(self) -> None:
        """Free the place."""
        if self._line is not None:
            self._line.close()
            with contextlib.suppress(MoshiError):  # the model has been closed already
                await self._service.close_row(lambda: self._session)
        if self._placed:
            self._placed = False
            self._service.lobby.leave()
