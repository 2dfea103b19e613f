"""POST /v1/audio/transcriptions and translations: a sound file in, words back."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ....engines.stt import Transcript
from ....engines.stt.events import Event, Piece
from ...gate.refusal import Refused
from ...replies import begun, unless_gone
from ...service import Service
from ...speech import SpeechService
from .errors import error_event, event, refused
from .forms import posted
from .transcripts import FORMS, TEXTS, as_json, as_text, timed

if TYPE_CHECKING:
    from fastapi import Request, Response
    from starlette.datastructures import FormData


@dataclass(frozen=True)
class Asked:
    """The content of a request.

    Attributes:
        path: of the file, on disk while the request is answered.
        form: of the answer, one of ``FORMS``.
        language: as it was given.
        prompt: a text that the sound may start with.
        words: whether to list words.
        events: whether the words come while they are recognised.
    """

    path: Path
    form: str
    language: str
    prompt: str
    words: bool
    events: bool


def read_fields(fields: "FormData", path: Path) -> Asked:
    """The fields of a form. Raises: Refused for anything wrong in them."""

    def text(name: str, default: str) -> str:
        value = fields.get(name, default)
        if not isinstance(value, str):
            raise Refused(400, f"{name} must be a text.", name)
        return value

    form = text("response_format", "json")
    if form not in FORMS:
        words = f"response_format must be one of {', '.join(FORMS)}."
        raise Refused(400, words, "response_format")
    lists = ("timestamp_granularities[]", "timestamp_granularities")
    wanted = [value for name in lists for value in fields.getlist(name)]
    if bad := [value for value in wanted if value not in ("word", "segment")]:
        words = f"timestamp_granularities are word and segment, not {bad[0]!r:.40}."
        raise Refused(400, words, "timestamp_granularities")
    stream = text("stream", "false").lower()
    if stream not in ("true", "false", "1", "0", ""):
        raise Refused(400, "stream must be true or false.", "stream")
    events = stream in ("true", "1")
    if events and form in ("srt", "vtt", "verbose_json"):
        words = f"{form} is given whole: leave out stream, or ask for json or text."
        raise Refused(400, words, "stream")
    language = text("language", "en")[:20] or "en"
    prompt = text("prompt", "")[:2000]
    return Asked(path, form, language, prompt, "word" in wanted, events)


@asynccontextmanager
async def uploaded(request: "Request") -> AsyncIterator[Asked]:
    """A request's file, on disk until this ends. Raises: Refused."""
    async with posted(request, "file") as (path, fields):
        yield read_fields(fields, path)


async def transcribe(service: Service, request: "Request") -> "Response":
    """Answer a request."""
    from fastapi.responses import StreamingResponse

    await service.speech.listening()
    async with AsyncExitStack() as stack:
        asked = await stack.enter_async_context(uploaded(request))
        if asked.events:
            pieces = _streamed(service.speech, asked, stack.pop_all())
            told = await begun(request, pieces)
            return StreamingResponse(told, media_type="text/event-stream")
        try:
            whole = _whole(service.speech, asked)
            found = await unless_gone(request, whole)
        except Exception as error:
            raise refused(error, str(asked.path)) from error
    return _answer(asked, found)


async def translate(service: Service, request: "Request") -> "Response":
    """Answer a request with Hibiki's translation of a file."""
    await service.speech.translating()
    async with uploaded(request) as asked:
        if asked.events:
            words = "a translation is given whole: leave out stream."
            raise Refused(400, words, "stream")
        try:
            with service.speech.job():
                said = await unless_gone(request, service.speech.translated(asked.path))
        except Exception as error:
            raise refused(error, str(asked.path)) from error
    found = Transcript.of(list(said.words), said.seconds)
    return _answer(asked, found, "translate")


def _answer(asked: Asked, found: Transcript, task: str = "transcribe") -> "Response":
    from fastapi.responses import JSONResponse, Response

    if asked.form in TEXTS:
        media = f"{TEXTS[asked.form]}; charset=utf-8"
        return Response(as_text(found, asked.form), media_type=media)
    return JSONResponse(as_json(found, asked.form, asked.language, asked.words, task))


async def _whole(speech: SpeechService, asked: Asked) -> Transcript:
    with speech.job():
        sound = await speech.samples(asked.path)
        return await speech.transcribe(sound, prompt=asked.prompt)


async def _streamed(
    speech: SpeechService, asked: Asked, stack: AsyncExitStack
) -> AsyncGenerator[bytes, None]:
    """The words as they are recognised, then all of them.

    Args:
        stack: closes the file.
    """
    async with stack:
        stack.enter_context(speech.job())
        yield b""
        said, noticed = "", list[Event]()
        try:
            sound = await speech.samples(asked.path)
            heard = speech.transcribing(sound, prompt=asked.prompt)
            async with aclosing(heard):
                async for one in heard:
                    noticed.append(one)
                    if isinstance(one, Piece):
                        piece = one.text if said else one.text.lstrip()
                        said += piece
                        yield event({"type": "transcript.text.delta", "delta": piece})
            rate = (await speech.listening()).stt.sample_rate
            whole = Transcript.of(noticed, len(sound) / rate)
            told = as_json(whole, "json", asked.language, False)
            if asked.words:  # not in OpenAI's API, which streams no times
                told["words"] = timed(whole)
            yield event({"type": "transcript.text.done", **told})
        except Exception as error:
            yield error_event(error, str(asked.path))
