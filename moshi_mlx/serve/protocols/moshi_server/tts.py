"""Text to speech: ``/api/tts_streaming``, word by word and for whole texts.

Source: kyutai-labs/moshi, rust/moshi-server/src/py_module.rs.
"""

import json
import logging
from collections.abc import AsyncGenerator, Awaitable
from typing import TYPE_CHECKING

import numpy as np

from ....audio.encode import Wav
from ....audio.samples import Pcm
from ....engines.tts.live_voice import LiveVoice
from ....errors import MoshiError, ProtocolError
from ...gate.refusal import Refused
from ...opus import OpusWriter
from ...replies import begun
from ...service import Service
from ...uploads import body_of
from ...voice import Voice
from . import socket as ws
from .messages import Singles, message, read_message, text_of, voice_numbers

if TYPE_CHECKING:
    from fastapi import Request, Response, WebSocket

_log = logging.getLogger(__name__)
FORMATS = ("OggOpus", "OggOpusMessagePack", "Pcm", "PcmMessagePack")
LOUDEST = 0.99
SILENT_S = 30.0  # without a message before the end of the text
PATIENCE_S = 100.0  # for a place, where a whole text is posted
MOST_TEXT = 100_000  # characters of a posted text
_END = b"\0"  # of the text, of older clients


async def serve_tts(service: Service, socket: "WebSocket") -> None:
    """Words while they arrive; sound comes back."""
    from fastapi import Response

    wanted = socket.query_params.get("format", "OggOpus")
    if wanted not in FORMATS:
        words = f"format {wanted[:40]!r} is unknown: use one of {', '.join(FORMATS)}.\n"
        await socket.send_denial_response(Response(words, 400))
        return
    await socket.accept()
    packed, failure = wanted.endswith("MessagePack"), None
    try:
        name = socket.query_params.get("voice")
        # Ready at once: clients wait half a second for it, and a voice that must be
        # downloaded may take longer. It is loaded before the first word is said.
        ready = service.speech.voices.ready(name)
        async with await service.speech.speak(ready) as voice:
            if packed:
                await socket.send_bytes(message("Ready"))
            asked = None if ready is not None else name
            reading = _read(service, socket, voice, asked)
            sending = _Sending(socket, wanted).all(voice)
            await ws.together(service, socket, reading, sending)
    except Exception as error:
        failure = error
        ws.note(error)
    await ws.say_goodbye(socket, failure, packed)


async def _read(
    service: Service, socket: "WebSocket", voice: Voice, name: str | None
) -> None:
    if name:
        await _change(voice, service.speech.voices.find(name))
    began = False
    while True:
        data = await ws.receive(socket, SILENT_S)
        kind, fields = "Text", {"text": data}
        if isinstance(data, bytes):
            kind, fields = ("Eos", {}) if data == _END else read_message(data)
        if kind == "Text":
            words = text_of(fields.get("text"))
            began = began or bool(words.strip())
            await voice.put(f"{words} ")
        elif kind == "Voice":
            numbers, shape = voice_numbers(fields)
            if not began:
                await _change(voice, service.speech.voices.of_numbers(numbers, shape))
        elif kind == "Eos":
            if not began:
                raise ws.Ended
            await voice.finish()
            while True:  # until the client goes
                await ws.receive(socket, 3600.0)
        else:
            raise ProtocolError(f"a message has the unknown type {kind[:40]!r}.")


async def _change(voice: Voice, wanted: Awaitable[LiveVoice]) -> None:
    """Speak with another voice; with the usual one if it is not available."""
    try:
        await voice.change(await wanted)
    except MoshiError as error:
        _log.warning("the usual voice speaks instead: %s", error)


class _Sending:
    """Sound and words in one of the formats."""

    def __init__(self, socket: "WebSocket", wanted: str):
        self._socket = socket
        self._packed = wanted.endswith("MessagePack")
        self._opus = OpusWriter() if wanted.startswith("OggOpus") else None

    async def all(self, voice: Voice) -> None:
        """Everything that is said."""
        async for spoken in voice.pieces():
            if spoken.pcm is not None:
                await self._sound(np.clip(spoken.pcm, -LOUDEST, LOUDEST))
            for word in spoken.words if self._packed else ():
                times = {"start_s": float(word.start_s), "stop_s": float(word.end_s)}
                data = message("Text", text=word.text, **times)
                await self._socket.send_bytes(data)
        if self._opus is not None:  # it holds the last frame back
            await self._sound(np.zeros(1920, np.float32))

    async def _sound(self, pcm: Pcm) -> None:
        if self._opus is not None:
            data = self._opus.push(pcm)
            if self._packed and data:
                data = message("OggOpus", data=data)
        elif self._packed:
            data = message("Audio", pcm=Singles(pcm))
        else:
            data = pcm.astype("<f4").tobytes()
        if data:
            await self._socket.send_bytes(data)


async def speak(service: Service, request: "Request") -> "Response":
    """A JSON object {text, voice}; a WAV file comes back while it is spoken."""
    from fastapi.responses import StreamingResponse

    body = await body_of(request)
    try:
        asked = json.loads(body)
        text, name = asked["text"], asked["voice"]
        if not isinstance(text, str) or not isinstance(name, str):
            raise TypeError
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        words = "the body must be a JSON object with a text and a voice."
        raise Refused(422, words) from error
    if len(text) > MOST_TEXT:
        raise Refused(413, f"the text is longer than {MOST_TEXT} characters.")
    sound = _wav(service, name, text)
    return StreamingResponse(await begun(request, sound), media_type="audio/wav")


async def _found(service: Service, name: str) -> LiveVoice:
    """A voice by name, the usual one for an unknown name."""
    voices = service.speech.voices
    try:
        return await voices.find(name)
    except MoshiError as error:
        if service.speech.tts is None or not name:
            raise
        _log.warning("the usual voice speaks instead: %s", error)
        return await voices.find(None)


async def _wav(service: Service, name: str, text: str) -> AsyncGenerator[bytes, None]:
    found = await _found(service, name)
    async with await service.speech.speak(found, PATIENCE_S) as voice:
        wav = Wav(voice.sample_rate)
        yield wav.push(np.zeros(0, np.float32))
        await voice.put(text)
        await voice.finish()
        async for pcm in voice:
            yield wav.push(np.clip(pcm, -LOUDEST, LOUDEST))
