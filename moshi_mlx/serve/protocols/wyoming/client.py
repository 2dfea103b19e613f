"""One Wyoming client, from its first event to its last."""

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from ....errors import MoshiError, ProtocolError
from ...gate.hangups import hung_up
from ...speech import SpeechService
from ...tasks import cancel_all
from .about import describe
from .requests import Synthesis, Transcription, begin_synthesis, plain_text
from .wire import Bounds, read_event, write_event

if TYPE_CHECKING:
    from wyoming.event import Event, Eventable

_log = logging.getLogger(__name__)
_LOOK_S = 0.1  # between looks for room in the queue
_QUEUED = 64  # events that may wait while a model works; then no more are read


class WyomingClient:
    """Reads events and does what they ask, in order.

    ``describe`` and ``ping`` are answered at once, even while a model works. Unknown
    events are ignored. An error is sent to the client and ends the connection, since
    clients would otherwise wait for an answer that never comes.
    """

    def __init__(
        self,
        speech: SpeechService,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        bounds: Bounds,
    ):
        self._speech, self._bounds = speech, bounds
        self._reader, self._writer = reader, writer
        self._sending = asyncio.Lock()
        self._todo: asyncio.Queue[Event] = asyncio.Queue(_QUEUED)
        self._language: str | None = None
        self._transcription: Transcription | None = None
        self._synthesis: Synthesis | None = None
        self._working = False

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
        except ConnectionError:
            pass  # the client has gone
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
            await cancel_all(work, read)
            await self._release()

    async def _read(self) -> None:
        from wyoming.ping import Ping, Pong

        while True:
            try:
                event = await read_event(self._reader, self._bounds)
            except asyncio.TimeoutError:
                if self._working:
                    continue  # the client waits for us
                raise ProtocolError(
                    f"nothing came for {self._bounds.idle_s:g} s."
                ) from None
            if event is None:
                return
            if event.type == "describe":
                await self._send(await describe(self._speech))
            elif Ping.is_type(event.type):
                text = event.data.get("text")
                await self._send(Pong(text if isinstance(text, str) else None))
            elif not await self._queued(event):
                return

    async def _queued(self, event: "Event") -> bool:
        """Queue an event; False where the client hangs up before there is room."""
        number = self._writer.get_extra_info("socket").fileno()
        while self._todo.full():
            if hung_up({number}):
                return False
            await asyncio.sleep(_LOOK_S)
        self._todo.put_nowait(event)
        return True

    async def _send(self, event: "Eventable") -> None:
        async with self._sending:
            await write_event(event.event(), self._writer, self._bounds)

    async def _work(self) -> None:
        while True:
            event = await self._todo.get()
            self._working = True
            await self._take(event)
            self._working = False

    async def _take(self, event: "Event") -> None:
        if event.type == "transcribe":
            language = event.data.get("language")
            self._language = language if isinstance(language, str) else None
        elif event.type in ("audio-start", "audio-chunk", "audio-stop"):
            await self._hear(event)
        elif event.type.startswith("synthesize"):
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
        """Free the rows of the models."""
        transcription, self._transcription = self._transcription, None
        synthesis, self._synthesis = self._synthesis, None
        for request in (transcription, synthesis):
            if request is not None:
                await request.close()
