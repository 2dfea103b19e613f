"""Live translation with Hibiki: ``/v1/realtime/translations``."""

import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from ....audio.samples import as_int16
from ....engines.duplex.reply import Reply
from ...interpreter import Interpreter
from ...service import Service
from ...sounds import SampleReader
from .connection import RealtimeSocket
from .messages import BadEvent, EventFields, coded, new_id, sound_of
from .session import LONGEST_S

if TYPE_CHECKING:
    from fastapi import WebSocket

_HZ = 24000
_LANGUAGE = "en"  # the language that Hibiki translates into


class Translation(RealtimeSocket):
    """Someone speaks; the translation comes back meanwhile, in sound and words."""

    def __init__(self, service: Service, socket: "WebSocket"):
        super().__init__(service, socket)
        lazy = service.speech.translate
        self._shown: dict[str, Any] = {
            "id": new_id("sess"),
            "type": "translation",
            "object": "realtime.translation_session",
            "model": socket.query_params.get("model") or (lazy.name if lazy else ""),
            "expires_at": int(time.time()) + LONGEST_S,
            "audio": {"input": {}, "output": {"language": _LANGUAGE}},
        }
        self._reader = SampleReader(_HZ, _HZ)
        self._interpreter: Interpreter | None = None
        self._told = 0  # frames

    async def begin(self) -> None:
        self._interpreter = await self.service.speech.interpret()
        await self.tell("session.created", session=self._shown)

    async def end(self) -> None:
        if self._interpreter is not None:
            await self._interpreter.aclose()

    def jobs(self) -> list[Awaitable[None]]:
        assert self._interpreter is not None
        return [self._translate(self._interpreter)]

    async def obey(self, event: EventFields) -> None:
        assert self._interpreter is not None
        kind = event["type"]
        if kind == "session.input_audio_buffer.append":
            await self._interpreter.put(self._reader.push(sound_of(event)))
        elif kind == "session.update":
            self._update(event.get("session"))
            await self.tell("session.updated", session=self._shown)
        elif kind == "session.close":
            await self._interpreter.finish()
        else:
            raise BadEvent(f"the event {kind[:60]!r} is unknown.", param="type")

    def _update(self, fields: object) -> None:
        audio = fields.get("audio") if isinstance(fields, dict) else None
        output = audio.get("output") if isinstance(audio, dict) else None
        wanted = output.get("language") if isinstance(output, dict) else None
        if wanted not in (None, _LANGUAGE):
            where = "session.audio.output.language"
            words = f"{where} must be {_LANGUAGE}: the model translates into no other."
            raise BadEvent(words, param=where)

    async def _translate(self, interpreter: Interpreter) -> None:
        """Wait until the client closes the session and everything has been said."""
        async for reply in interpreter:
            await self._say(reply)
        await self.tell("session.closed")

    async def _say(self, reply: Reply) -> None:
        self._told += 1
        at = {"elapsed_ms": 80 * self._told}
        if reply.text:
            await self.tell("session.output_transcript.delta", delta=reply.text, **at)
        if reply.pcm is not None:
            data = as_int16(reply.pcm).tobytes()
            await self.tell(
                "session.output_audio.delta",
                delta=coded(data),
                format="pcm16",
                sample_rate=_HZ,
                channels=1,
                **at,
            )


async def serve_translation(service: Service, socket: "WebSocket") -> None:
    """A session, from its opening handshake to its end."""
    await Translation(service, socket).serve()
