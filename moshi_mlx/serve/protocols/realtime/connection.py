"""A WebSocket of the Realtime API, from its opening handshake to its end."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from ....errors import MoshiError, NoPlace, NotServed
from ...replies import has_gone, read_within, until_gone
from ...service import Service
from ...sounds import SoundReader
from ...speech import Ears
from ...tasks import cancel_all, within
from .hearing import UserSide
from .items import Items
from .messages import BadEvent, EventFields, error_fields, new_id, read_event, sound_of
from .response import Responses
from .session import LONGEST_S, RealtimeSession
from .talking import MoshiTalk

if TYPE_CHECKING:
    from fastapi import WebSocket

_log = logging.getLogger(__name__)
_PATIENCE_S = 2.0  # for a free row of the listening model
_HZ = 24000  # of both models
_FAILED, _BUSY, _RESTARTING = 1011, 1013, 1012  # codes of a close


class RealtimeSocket:
    """Sends and reads events; subclasses say what they mean."""

    def __init__(self, service: Service, socket: "WebSocket"):
        self.service, self._socket = service, socket
        self._sending = asyncio.Lock()

    async def tell(self, kind: str, /, **fields: Any) -> None:
        """Send an event."""
        event = {"type": kind, "event_id": new_id("event"), **fields}
        text = json.dumps(event, ensure_ascii=False)
        async with self._sending:
            await read_within(self._socket.send_text(text), self.service.limits.read_s)

    async def serve(self) -> None:
        """Serve the socket until its end."""
        offered = self._socket.scope.get("subprotocols", [])
        await self._socket.accept("realtime" if "realtime" in offered else None)
        code = 1000
        try:
            await self.begin()
            code = await self._until_its_end()
        except Exception as error:
            code = await self._fail(error)
        finally:
            await asyncio.shield(self.end())
        with contextlib.suppress(Exception):  # a client that has gone gets no goodbye
            await within(self._socket.close(code), 2.0)

    async def begin(self) -> None:
        """Greet the client."""

    async def end(self) -> None:
        """Free everything that the session holds."""

    def jobs(self) -> list[Awaitable[None]]:
        """What runs beside the reading, once ``begin`` has returned."""
        return []

    async def obey(self, event: EventFields) -> None:
        """Handle an event. Raises: BadEvent."""
        raise NotImplementedError

    async def _until_its_end(self) -> int:
        closing = asyncio.ensure_future(self.service.closing.wait())
        jobs = (self._read(), until_gone(self._socket.scope), *self.jobs())
        running = [asyncio.ensure_future(job) for job in jobs]
        try:
            done, _ = await asyncio.wait(
                [closing, *running],
                timeout=LONGEST_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                task.result()
            return _RESTARTING if closing in done else 1000
        finally:
            await cancel_all(closing, *running)

    async def _read(self) -> None:
        while True:
            got = await self._socket.receive()
            if got["type"] == "websocket.disconnect":
                return
            event: EventFields = {}
            try:
                event = read_event(got.get("text") or got.get("bytes") or b"")
                await self.obey(event)
            except BadEvent as error:
                fields = error_fields(error, event.get("event_id"))
                await self.tell("error", error=fields)

    async def _fail(self, error: Exception) -> int:
        expected = isinstance(error, MoshiError) or has_gone(error)
        level = logging.INFO if expected else logging.ERROR
        _log.log(level, "a session failed: %s", error, exc_info=not expected)
        with contextlib.suppress(Exception):
            await self.tell("error", error=error_fields(error))
        return _BUSY if isinstance(error, NoPlace) else _FAILED


class RealtimeConnection(RealtimeSocket):
    """A transcription session, or a conversation with Moshi."""

    def __init__(self, service: Service, socket: "WebSocket"):
        super().__init__(service, socket)
        self.session = RealtimeSession.of(service, socket.query_params)
        self._items = Items(self.tell)
        self._responses = Responses(self.tell, self.session, self._items, _HZ)
        self._ears: Ears | None = None
        self._hearing: UserSide | None = None
        self._talk: MoshiTalk | None = None
        self._reader: SoundReader | None = None
        self._begun = asyncio.Event()

    async def begin(self) -> None:
        await self.tell("session.created", session=self.session.shown)

    def jobs(self) -> list[Awaitable[None]]:
        return [self._hear(), self._answer()]

    async def end(self) -> None:
        held = [self._ears and self._ears.aclose(), self._talk and self._talk.end()]
        await asyncio.gather(*(ending for ending in held if ending is not None))
        with contextlib.suppress(Exception):
            await self._responses.close()

    async def _start(self) -> UserSide:
        """Take rows of the models when the first sound comes.

        Raises: NoPlace, NotServed.
        """
        if self._hearing is not None:
            return self._hearing
        talks = self.session.kind == "realtime"
        if talks:
            asked = self.session
            self._talk = MoshiTalk(
                self.service, asked.model, asked.instructions, asked.voice
            )
            await self._talk.begin()
        try:
            self._ears = await self.service.speech.listen(_PATIENCE_S)
        except (NoPlace, NotServed):
            if not talks:  # otherwise loudness decides
                raise
        self._hearing = UserSide(
            *(self.tell, self._items, self._ears),
            *(self.session.turn_detection, _HZ),
            self._responses.interrupt if talks else None,
            not self.session.transcribes,
        )
        self._responses.on_open = self._hearing.end_turn
        self._begun.set()
        return self._hearing

    async def _hear(self) -> None:
        await self._begun.wait()
        assert self._hearing is not None
        await self._hearing.run()

    async def _answer(self) -> None:
        await self._begun.wait()
        if self._talk is None:
            await asyncio.Event().wait()
        while self._talk is not None:
            await self._responses.take(await self._talk.next())

    async def obey(self, event: EventFields) -> None:
        kind = event["type"]
        if kind == "session.update":
            await self._update(event.get("session"))
        elif kind == "input_audio_buffer.append":
            await self._append(event)
        elif kind == "input_audio_buffer.commit":
            await (await self._start()).commit()
        elif kind == "input_audio_buffer.clear":
            await (await self._start()).clear()
        elif kind == "output_audio_buffer.clear":
            await self.tell("output_audio_buffer.cleared", response_id=None)
        elif kind == "response.create":
            self._check_talks()
            await self._start()
            await self._responses.create()
        elif kind == "response.cancel":
            await self._responses.cancel()
        elif kind.startswith("conversation.item."):
            await self._items.obey(kind.removeprefix("conversation.item."), event)
        else:
            raise BadEvent(f"the event {kind[:60]!r} is unknown.", param="type")

    async def _update(self, fields: object) -> None:
        if not isinstance(fields, dict):
            raise BadEvent("session must be an object.", param="session")
        before = self.session.kind, self.session.input["format"]
        if self._hearing is not None and fields.get("type", before[0]) != before[0]:
            words = "session.type cannot change once there was sound."
            raise BadEvent(words, param="session.type")
        self.session.update(fields)
        if self.session.kind == "realtime" and self.service.batch is None:
            self.session.kind = before[0]
            raise BadEvent(
                "this server has no model to talk with: set session.type to "
                "transcription.",
                "model_not_found",
                "session.type",
            )
        if self.session.input["format"] != before[1]:
            self._reader = None
        if self._hearing is not None:
            self._hearing.detect(self.session.turn_detection)
        await self.tell("session.updated", session=self.session.shown)

    async def _append(self, event: EventFields) -> None:
        data = sound_of(event)
        hearing = await self._start()
        if self._reader is None:
            self._reader = self.session.reader(_HZ)
        pcm = self._reader.push(data)
        if self._talk is not None:
            self._talk.put(pcm)
        await hearing.put(pcm)

    def _check_talks(self) -> None:
        if self.session.kind != "realtime":
            raise BadEvent("a transcription session has no responses.", param="type")


async def serve_realtime(service: Service, socket: "WebSocket") -> None:
    """A session, from its opening handshake to its end."""
    await RealtimeConnection(service, socket).serve()
