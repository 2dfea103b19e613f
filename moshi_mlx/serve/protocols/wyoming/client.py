"""One Wyoming client, from its first event to its last."""

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from ....errors import MoshiError, ProtocolError
from ...gate.hangups import hung_up
from ...gate.limits import Inflow
from ...speech import SpeechService
from ...tasks import cancel_all, within
from .about import describe
from .backlog import Backlog
from .requests import Synthesis, Transcription, begin_synthesis, plain_text
from .wire import Bounds, read_event, write_event

if TYPE_CHECKING:
    from wyoming.event import Event, Eventable

_log = logging.getLogger(__name__)
_LOOK_S = 0.1  # between looks for room in the queue
_SOUND = ("audio-start", "audio-chunk", "audio-stop")
_TEXT = ("synthesize", "synthesize-start", "synthesize-chunk", "synthesize-stop")
_TODO = (*_SOUND, *_TEXT, "transcribe")
_DESCRIBED = 1 << 16  # bytes that a description costs: there may be hundreds of voices


class WyomingClient:
    """Reads events and does what they ask, in order.

    ``describe`` and ``ping`` are answered at once, even while a model works. Unknown
    events are ignored. An error is sent to the client and ends the connection, since
    clients would otherwise wait for an answer that never comes.

    Args:
        inflow: what it may send; beyond that it is read more slowly.

    Attributes:
        rests_since: since when it has asked for nothing, in the event loop's time; None
            while it has a request.
    """

    def __init__(
        self,
        speech: SpeechService,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        bounds: Bounds,
        inflow: Inflow,
    ):
        self._speech, self._bounds, self._inflow = speech, bounds, inflow
        self._reader, self._writer = reader, writer
        self._loop = asyncio.get_running_loop()
        self._sending = asyncio.Lock()
        self._todo = Backlog(bounds.waiting_bytes)
        self._language: str | None = None
        self._transcription: Transcription | None = None
        self._synthesis: Synthesis | None = None
        self._closing: list[asyncio.Future[None]] = []
        self._working = False
        self.rests_since: float | None = self._loop.time()

    async def run(self) -> None:
        """Serve until either side ends the connection; client errors raise nothing."""
        from wyoming.error import Error

        work = asyncio.ensure_future(self._work())
        read = asyncio.ensure_future(self._read())
        try:
            done, _ = await asyncio.wait(
                {work, read}, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
        except ConnectionError as error:
            _log.info("a Wyoming client has gone: %s", error)
        except Exception as error:
            expected = isinstance(error, MoshiError)
            _log.log(
                logging.INFO if expected else logging.ERROR,
                "a Wyoming client failed: %s",
                error,
                exc_info=not expected,
            )
            words = str(error) if expected else "the server failed: see its log."
            with contextlib.suppress(Exception):
                await self._send(Error(words, type(error).__name__))
        finally:
            ending = asyncio.ensure_future(self._end(work, read))
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:  # the server ends too: not before this
                await ending
                raise

    async def _end(self, *tasks: "asyncio.Future[None]") -> None:
        """Stop what is being done, and free the rows of the models."""
        await cancel_all(*tasks)
        await self._release()

    async def _read(self) -> None:
        from wyoming.ping import Ping, Pong

        while True:
            try:
                received = await read_event(self._reader, self._bounds)
            except asyncio.TimeoutError:
                if self._working:
                    continue  # the client waits for us
                raise ProtocolError(
                    f"nothing came for {self._bounds.idle_s:g} s."
                ) from None
            if received is None:
                return
            event, size = received.event, received.size
            cost = size + _DESCRIBED if event.type == "describe" else size
            owed_s = self._inflow.owed_s(cost)
            # Even if nothing is owed others come first: a whole burst of events may
            # lie here, and reading them would not wait for anything.
            await asyncio.sleep(owed_s)
            if owed_s and self._has_gone:
                return
            if event.type == "describe":
                await self._send(await describe(self._speech))
            elif Ping.is_type(event.type):
                text = event.data.get("text")
                await self._send(Pong(text if isinstance(text, str) else None))
            elif event.type in _TODO and not await self._queued(event, size):
                return

    @property
    def _has_gone(self) -> bool:
        """Whether the client has hung up, though not all that it sent was read."""
        number = self._writer.get_extra_info("socket").fileno()
        return number < 0 or bool(hung_up({number}))

    async def _queued(self, event: "Event", size: int) -> bool:
        """Queue an event; False if the client hangs up before there is room."""
        while self._todo.full:
            if self._has_gone:
                return False
            await asyncio.sleep(_LOOK_S)
        self._todo.put(event, size)
        return True

    async def _send(self, event: "Eventable") -> None:
        async with self._sending:
            await write_event(event.event(), self._writer, self._bounds)

    async def _work(self) -> None:
        while True:
            event = await self._next()
            self._working, self.rests_since = True, None
            await self._take(event)
            self._working = False
            if self._transcription is None and self._synthesis is None:
                self.rests_since = self._loop.time()

    async def _next(self) -> "Event":
        """The next event. Raises: ProtocolError if a request is not gone on with."""
        request = self._transcription or self._synthesis
        if request is None:
            return await self._todo.get()
        left_s = request.began_at + self._bounds.request_s - self._loop.time()
        pause_s = self._bounds.text_pause_s
        if self._transcription is not None:
            pause_s = self._bounds.sound_pause_s
        try:
            return await within(self._todo.get(), max(0.0, min(pause_s, left_s)))
        except asyncio.TimeoutError:
            raise ProtocolError(
                f"nothing more of the request came for {pause_s:g} s."
                if pause_s < left_s
                else f"a request may take {self._bounds.request_s:g} s at most."
            ) from None

    async def _take(self, event: "Event") -> None:
        if event.type == "transcribe":
            language = event.data.get("language")
            self._language = language if isinstance(language, str) else None
        elif event.type in _SOUND:
            await self._hear(event)
        else:
            await self._say(event)

    async def _hear(self, event: "Event") -> None:
        if event.type == "audio-start" and self._transcription is not None:
            raise ProtocolError("audio-start came twice: send audio-stop in between.")
        if self._transcription is None:
            if event.type == "audio-stop":
                return
            ears = await self._speech.listen(self._bounds.wait_s)
            try:
                self._transcription = Transcription(
                    ears, self._send, self._bounds, event.data
                )
            except MoshiError:
                await ears.aclose()
                raise
        if event.type == "audio-chunk":
            await self._transcription.take(event.payload or b"")
        elif event.type == "audio-stop":
            await self._transcription.finish(self._language)
            await self._release()

    async def _say(self, event: "Event") -> None:
        if event.type == "synthesize" and self._synthesis is None:
            text = plain_text(event)
            await self._begin(event, streamed=False)
            await self._synthesis_now.take(text)
            await self._synthesis_now.finish()
            await self._release()
        elif event.type == "synthesize-start":
            if self._synthesis is not None:
                raise ProtocolError(
                    "synthesize-start came twice: send synthesize-stop in between."
                )
            await self._begin(event, streamed=True)
        elif event.type == "synthesize-chunk" and self._synthesis is not None:
            await self._synthesis.take(plain_text(event))
        elif event.type == "synthesize-stop" and self._synthesis is not None:
            await self._synthesis.finish()
            await self._release()
        # Home Assistant repeats the whole text as `synthesize` before it stops a
        # stream, for servers that do not stream. Here it changes nothing.

    async def _begin(self, event: "Event", streamed: bool) -> None:
        self._synthesis = await begin_synthesis(
            self._speech, event, self._send, self._bounds, streamed
        )

    @property
    def _synthesis_now(self) -> Synthesis:
        assert self._synthesis is not None
        return self._synthesis

    async def _release(self) -> None:
        """Free the rows of the models; they are freed even if this is cancelled."""
        for request in (self._transcription, self._synthesis):
            if request is not None:
                self._closing.append(asyncio.ensure_future(request.close()))
        self._transcription = self._synthesis = None
        await asyncio.shield(asyncio.gather(*self._closing))
        self._closing.clear()
