"""Speech to text: ``/api/asr-streaming``, live and for whole files.

Source: kyutai-labs/moshi, rust/moshi-server/src/batched_asr.rs.
"""

from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from ....documents.words import Word
from ....engines.stt.events import Event, Pauses, WordBegun
from ....errors import MoshiError, ProtocolError
from ...ears import Ears, Flushed
from ...gate.refusal import Refused
from ...opus import OpusReader
from ...replies import unless_gone
from ...service import Service
from ...uploads import uploaded
from . import socket as ws
from .messages import Singles, integer, message, octets, read_message, samples

if TYPE_CHECKING:
    from fastapi import Request, Response, WebSocket

SILENT_S = 120.0  # without a message the connection ends


async def serve_asr(service: Service, socket: "WebSocket") -> None:
    """A sound while it is said; words, pauses and markers come back."""
    await socket.accept()
    failure = None
    try:
        async with await service.speech.listen() as ears:
            await socket.send_bytes(message("Ready"))
            await ws.together(service, socket, _hear(socket, ears), _tell(socket, ears))
    except Exception as error:
        failure = error
        ws.note(error)
    await ws.say_goodbye(socket, failure, packed=True)


async def _hear(socket: "WebSocket", ears: Ears) -> None:
    opus = OpusReader()
    while True:
        data = await ws.receive(socket, SILENT_S)
        if isinstance(data, str):
            continue
        kind, fields = read_message(data)
        if kind == "Audio":
            await ears.put(samples(fields.get("pcm")))
        elif kind == "OggOpus":
            await ears.put(opus.push(octets(fields.get("data"))))
        elif kind == "Marker":
            await ears.mark(integer(fields.get("id")))
        elif kind == "Init":
            opus = OpusReader()
            await ears.restart()
            await socket.send_bytes(message("Ready"))
        else:
            raise ProtocolError(f"a message has the unknown type {kind[:40]!r}.")


async def _tell(socket: "WebSocket", ears: Ears) -> None:
    async for event in ears:
        if (data := _message(event, ears)) is not None:
            await socket.send_bytes(data)


def _message(event: Event | Flushed, ears: Ears) -> bytes | None:
    if isinstance(event, Pauses):
        return message(
            "Step",
            step_idx=ears.heard.steps,
            prs=Singles(event.probabilities),
            buffered_pcm=ears.heard.waiting,
        )
    if isinstance(event, WordBegun):
        return message("Word", text=event.text, start_time=float(event.start_s))
    if isinstance(event, Word):
        return message("EndWord", stop_time=float(event.end_s))
    if isinstance(event, Flushed):
        return message("Marker", id=event.id)
    return None


async def transcribe(service: Service, request: "Request") -> "Response":
    """A sound file as the body; its words come back as a JSON list."""
    from fastapi.responses import JSONResponse

    async with uploaded(request, service.limits.upload_bytes) as path:
        try:
            with service.speech.job():
                told = await unless_gone(request, _words(service, path))
        except MoshiError as error:
            refused = Refused.of(error)
            refused.words = refused.words.replace(str(path), "the file")
            raise refused from error
    return JSONResponse(told)


async def _words(service: Service, path: Path) -> list[dict[str, object]]:
    told: list[dict[str, object]] = []
    async with aclosing(service.speech.transcribing(path)) as heard:
        async for event in heard:
            if isinstance(event, WordBegun):
                word = {"text": event.text, "start_time": event.start_s}
                told.append({"type": "Word", **word})
            elif isinstance(event, Word):
                told.append({"type": "EndWord", "stop_time": event.end_s})
    return told
