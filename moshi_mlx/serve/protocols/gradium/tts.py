"""Text to speech: ``/api/speech/tts``, and whole texts by POST."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

from ....audio.encode import FORMATS, Encoder
from ....audio.resample import Resampler
from ....audio.samples import Pcm
from ....errors import AudioError, NoPlace, NotServed, ProtocolError
from ...gate.refusal import Refused
from ...replies import begun
from ...service import Service
from ...sounds import TELEPHONE_HZ, companded
from ...speech import Voice
from ...tasks import within
from ...uploads import body_of
from .messages import (
    SOUND_FORMATS,
    Fields,
    audio,
    is_rate,
    settings_of,
    string,
    words_of,
)
from .requests import RequestSocket, SpeechRequest, both

if TYPE_CHECKING:
    from fastapi import Request, Response, WebSocket

_log = logging.getLogger(__name__)
_PATIENCE_S = 10.0  # for a free row of the model
_SILENT_S = 30.0  # without a message for this long, the text counts as complete
USUAL_HZ = 48000  # of "pcm" and "wav": what Gradium's clients play


class Sending:
    """The model's samples in the client's format.

    Args:
        wanted: an ``output_format``.
        source_hz: the model's rate.

    Raises: ProtocolError for an unknown format.
    """

    def __init__(self, wanted: str, source_hz: int):
        self._law, self._encoder, self.hz = None, None, USUAL_HZ
        kind, _, rate = wanted.partition("_")
        if wanted in ("ulaw_8000", "alaw_8000"):
            self._law, self.hz = kind.upper(), TELEPHONE_HZ
        elif wanted in ("wav", "opus"):
            self._encoder = self._made(wanted)
        elif kind == "pcm" and (not rate or is_rate(rate)):
            self.hz = int(rate or USUAL_HZ)
            self._encoder = self._made(kind)
        else:
            words = f"output_format {wanted[:40]!r} is unknown: use {SOUND_FORMATS}."
            raise ProtocolError(words)
        try:
            self._resampler = Resampler(source_hz, self.hz)
        except AudioError as error:
            raise ProtocolError(str(error)) from error
        self.media_type = "audio/pcm"
        if wanted in FORMATS:
            self.media_type = FORMATS[wanted].media_type

    def _made(self, name: str) -> Encoder:
        return FORMATS[name].make(self.hz)

    def push(self, pcm: Pcm) -> bytes:
        """The bytes that samples ``[S]`` complete."""
        return self._coded(self._resampler.push(pcm[None])[0])

    def finish(self) -> bytes:
        """The last bytes."""
        last = self._coded(self._resampler.flush()[0])
        return last if self._encoder is None else last + self._encoder.finish()

    def _coded(self, pcm: Pcm) -> bytes:
        if self._law is not None:
            return companded(pcm, self._law)
        assert self._encoder is not None
        return self._encoder.push(pcm)


async def serve_tts(service: Service, socket: "WebSocket") -> None:
    """Texts while they are written; sound and the times of words come back."""
    await RequestSocket(service, socket, synthesize).serve()


async def synthesize(request: SpeechRequest) -> None:
    """Handle a request."""
    settings_of(request.setup)
    async with await _voice(request.service, request.setup) as voice:
        wanted = string(request.setup, "output_format") or "wav"
        sending = Sending(wanted, voice.sample_rate)
        offer = request.service.speech.says
        await request.send(
            {
                "type": "ready",
                "request_id": request.request_id,
                "model_name": "" if offer is None else offer.name,
                "sample_rate": sending.hz,
                "frame_size": sending.hz * 2 // 25,
                "text_stream_names": [],
            }
        )
        await both(_read(request, voice), _send(request, voice, sending))


async def _voice(service: Service, fields: Fields) -> Voice:
    """The requested voice; the usual one for an unknown name, since clients send the
    names of Gradium's own voices."""
    speech = service.speech
    name = string(fields, "voice_id", "voice")
    if name and name != "default":
        try:
            return await speech.speak(name, _PATIENCE_S)
        except NotServed as error:
            if speech.tts is None:
                raise
            _log.info("the usual voice speaks instead: %s", error)
    return await speech.speak(None, _PATIENCE_S)


async def _read(request: SpeechRequest, voice: Voice) -> None:
    while True:
        try:
            fields = await within(request.told.get(), _SILENT_S)
        except asyncio.TimeoutError:  # as of a client that was interrupted
            await voice.finish()
            return
        kind = fields["type"]
        if kind == "text":
            await voice.put(words_of(fields))
        elif kind == "end_of_stream":
            await voice.finish()
            return
        elif kind != "flush":  # everything is always said as soon as possible
            raise ProtocolError(f"a message has the unknown type {kind[:40]!r}.")


async def _send(request: SpeechRequest, voice: Voice, sending: Sending) -> None:
    async for fields in _messages(voice, sending):
        await request.send(fields)


async def _messages(voice: Voice, sending: Sending) -> AsyncIterator[dict[str, Any]]:
    """Sound and words, as they are said."""
    at = 0  # samples
    hz = voice.sample_rate
    async for spoken in voice.pieces():
        if spoken.pcm is not None:
            begin, at = at, at + len(spoken.pcm)
            if data := sending.push(spoken.pcm):
                yield audio(data, begin / hz, at / hz)
        for word in spoken.words:
            times = {"start_s": round(word.start_s, 3), "stop_s": round(word.end_s, 3)}
            yield {"type": "text", "text": word.text, **times}
    if data := sending.finish():
        yield audio(data, at / hz, at / hz)


async def post_tts(service: Service, request: "Request") -> "Response":
    """A JSON object {text, voice_id, output_format, only_audio}; its sound comes back
    while it is spoken, as bytes or in the messages of the WebSocket, one per line."""
    from fastapi.responses import StreamingResponse

    fields = await _body(request)
    try:
        text, only = words_of(fields), fields.get("only_audio") is True
        settings_of(fields)
        wanted = string(fields, "output_format") or "wav"
        sending = Sending(wanted, 24000)
        sound = await begun(request, _posted(service, fields, text, sending, only))
    except ProtocolError as error:
        raise Refused(422, str(error)) from error
    except NoPlace as error:
        raise Refused(429, str(error), headers={"retry-after": "1"}) from error
    media_type = sending.media_type if only else "application/x-ndjson"
    return StreamingResponse(sound, media_type=media_type)


async def _posted(
    service: Service, fields: Fields, text: str, sending: Sending, only: bool
) -> AsyncGenerator[bytes, None]:
    """The sound of a text, or messages with it."""
    async with await _voice(service, fields) as voice:
        yield b""  # there is a place: later failures have no status
        await voice.put(text)
        await voice.finish()
        if not only:
            async for message in _messages(voice, sending):
                yield json.dumps(message, ensure_ascii=False).encode() + b"\n"
            return
        async for pcm in voice:
            yield sending.push(pcm)
        yield sending.finish()


async def _body(request: "Request") -> Fields:
    data = await body_of(request)
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise Refused(422, "the body must be a JSON object with a text.")
    return fields
