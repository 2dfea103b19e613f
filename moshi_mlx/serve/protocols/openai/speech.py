"""POST /v1/audio/speech: a text in, sound back while it is spoken."""

import base64
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ....audio.encode import FORMATS, Encoder
from ....engines.tts.script import without_unknown
from ...gate.refusal import Refused
from ...replies import begun
from ...service import Service
from ...uploads import body_of
from .bodies import fields_of
from .errors import error_event, event
from .models import voice_for

if TYPE_CHECKING:
    from fastapi import Request, Response

MOST_TEXT = 20_000  # characters


@dataclass(frozen=True)
class Wanted:
    """The content of a request.

    Attributes:
        text: the text to say.
        voice: as it was given.
        form: of the sound, a key of ``FORMATS``.
        events: whether the sound comes in server-sent events.
        seed: the same seed gives the same speech; None draws one. Not in OpenAI's API.
    """

    text: str
    voice: object
    form: str
    events: bool
    seed: int | None = None


def read_request(body: bytes) -> Wanted:
    """The body of a request. Raises: Refused for anything wrong in it."""
    fields = fields_of(body)
    text = fields.get("input")
    if not isinstance(text, str) or not text.strip():
        raise Refused(400, "input must be a text with words.", "input")
    if len(text) > MOST_TEXT:
        words = f"input may have {MOST_TEXT} characters, not {len(text)}."
        raise Refused(400, words, "input", "string_above_max_length")
    form = _chosen(fields, "response_format", "mp3", tuple(FORMATS))
    stream = _chosen(fields, "stream_format", "audio", ("audio", "sse"))
    speed = fields.get("speed")
    number = isinstance(speed, int | float) and not isinstance(speed, bool)
    if speed is not None and not (number and 0.25 <= speed <= 4):
        raise Refused(400, "speed must be a number from 0.25 to 4.", "speed")
    if speed is not None and speed != 1:
        raise Refused(400, "this model speaks at speed 1 only.", "speed")
    seed = fields.get("seed")
    if seed is not None and not (type(seed) is int and 0 <= seed < 2**53):
        raise Refused(400, "seed must be a whole number from 0 to 2**53 - 1.", "seed")
    return Wanted(text, fields.get("voice"), form, stream == "sse", seed)


def _chosen(
    fields: dict[str, Any], name: str, default: str, known: tuple[str, ...]
) -> str:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, str) or value not in known:
        raise Refused(400, f"{name} must be one of {', '.join(known)}.", name)
    return value


async def speak(service: Service, request: "Request") -> "Response":
    """Answer a request; the sound is sent while it is generated.

    The first sound is generated before the answer starts, so that an impossible text or
    voice gets an error status.
    """
    from fastapi.responses import StreamingResponse

    wanted = read_request(await body_of(request))
    tts = (await service.speech.speaking()).tts
    voice = await voice_for(service.speech, wanted.voice)
    known, _ = without_unknown(tts.tokenizer, wanted.text)
    if not any(entry.tokens for entry in tts.prepare_script([known])):
        raise Refused(400, "input has no words that this model can say.", "input")
    encoder = FORMATS[wanted.form].make(int(tts.mimi.sample_rate))
    sending = await begun(request, _sound(service, wanted, voice, encoder))
    media = "text/event-stream" if wanted.events else FORMATS[wanted.form].media_type
    return StreamingResponse(sending, media_type=media)


async def _sound(
    service: Service, wanted: Wanted, voice: str, encoder: Encoder
) -> AsyncGenerator[bytes, None]:
    """Bytes or events of a speech; a failure after the first sound ends it."""
    sounded = False
    try:
        async with await service.speech.speak(voice, seed=wanted.seed) as speaking:
            await speaking.put(wanted.text)
            await speaking.finish()
            async for pcm in speaking:
                if data := encoder.push(pcm):
                    sounded = True
                    yield _delta(data) if wanted.events else data
        if data := encoder.finish():
            yield _delta(data) if wanted.events else data
        if wanted.events:
            yield event(_done(wanted.text))
    except Exception as error:
        if not (sounded and wanted.events):
            raise
        yield error_event(error)


def _delta(data: bytes) -> bytes:
    audio = base64.b64encode(data).decode()
    return event({"type": "speech.audio.delta", "audio": audio})


def _done(text: str) -> dict[str, Any]:
    words = len(text.split())
    usage = {"input_tokens": words, "output_tokens": 0, "total_tokens": words}
    return {"type": "speech.audio.done", "usage": usage}
