"""OpenAI's transcriptions from form to answer, without a model."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from starlette.requests import Request

from moshi_mlx.documents.words import Word
from moshi_mlx.engines.stt import Transcript
from moshi_mlx.engines.stt.events import Event, Piece
from moshi_mlx.errors import AudioError
from moshi_mlx.serve.gate.refusal import Refused
from moshi_mlx.serve.protocols.openai.transcriptions import transcribe, translate
from tests.serve.openai.test_forms import EDGE, part

WORDS = [Word("hello", 0.2, 0.5), Word("there", 0.6, 1.0)]


class Hearing:
    """A service that hears two words in two seconds."""

    def __init__(self, error: Exception | None = None):
        self.speech, self.error, self.jobs = self, error, 0
        self.prompts: list[str] = []

    async def listening(self) -> Any:
        return SimpleNamespace(stt=SimpleNamespace(sample_rate=24000))

    async def translating(self) -> None: ...

    @contextlib.contextmanager
    def job(self) -> Iterator[None]:
        self.jobs += 1
        yield

    async def samples(self, path: Any) -> np.ndarray:
        if self.error is not None:
            raise AudioError(f"{path} is no sound.")
        return np.zeros(48000, np.float32)

    async def transcribing(self, _sound: Any, prompt: str) -> AsyncIterator[Event]:
        self.prompts.append(prompt)
        for word in WORDS:
            yield Piece(f" {word.text}")
            yield word

    async def transcribe(self, sound: Any, prompt: str) -> Transcript:
        self.prompts.append(prompt)
        return Transcript.of(list(WORDS), len(sound) / 24000)

    async def translated(self, path: Any) -> Any:
        await self.samples(path)
        return SimpleNamespace(words=WORDS, seconds=2.0)


def answered(answer: Any, service: Hearing, **fields: str) -> tuple[str, str]:
    body = "".join(part(name, value) for name, value in fields.items())
    body += part("file", "RIFF", file=True) + "--edge--\r\n"
    pieces = [{"type": "http.request", "body": body.encode(), "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not pieces:
            await asyncio.Event().wait()
        return pieces.pop()

    async def main() -> tuple[str, str]:
        headers = [(b"content-type", EDGE.encode())]
        scope = {"type": "http", "headers": headers, "app": None}
        told = await answer(cast(Any, service), Request(scope, receive))
        if hasattr(told, "body_iterator"):
            text = b"".join([piece async for piece in told.body_iterator])
            return told.media_type, text.decode()
        return told.media_type, told.body.decode()

    return asyncio.run(main())


@pytest.mark.parametrize("answer", [transcribe, translate])
def test_a_file_is_answered_with_text_or_with_json(answer):
    service = Hearing()
    media, text = answered(answer, service, response_format="text", prompt="so")
    assert (media, text) == ("text/plain; charset=utf-8", "hello there\n")
    media, text = answered(answer, service, response_format="verbose_json")
    told = json.loads(text)
    assert media == "application/json" and told["duration"] == 2.0
    assert told["task"] == answer.__name__ and service.jobs == 2
    assert service.prompts == (["so", ""] if answer is transcribe else [])


def test_words_come_in_events_and_then_all_of_them():
    def events(**fields: str) -> list[dict[str, Any]]:
        media, text = answered(transcribe, Hearing(), stream="true", **fields)
        assert media == "text/event-stream"
        return [json.loads(line[6:]) for line in text.split("\n\n") if line]

    first, second, done = events()
    delta = "transcript.text.delta"
    assert (first, second) == (
        {"type": delta, "delta": "hello"},
        {"type": delta, "delta": " there"},
    )
    usage = {"type": "duration", "seconds": 2.0}
    whole = {"type": "transcript.text.done", "text": "hello there", "usage": usage}
    assert done == whole
    *_, done = events(**{"timestamp_granularities[]": "word"})
    assert [word["end"] for word in done["words"]] == [0.5, 1.0]


@pytest.mark.parametrize("answer", [transcribe, translate])
def test_what_is_no_sound_is_refused_without_our_path(answer):
    with pytest.raises(Refused, match=r"^the file is no sound\.$") as refused:
        answered(answer, Hearing(AudioError("")))
    assert refused.value.status == 400


def test_a_translation_is_not_streamed_and_a_late_failure_is_an_event():
    with pytest.raises(Refused, match="given whole") as refused:
        answered(translate, Hearing(), stream="1")
    assert (refused.value.status, refused.value.param) == (400, "stream")
    _, text = answered(transcribe, Hearing(AudioError("")), stream="1")
    assert json.loads(text[6:])["error"]["message"] == "the file is no sound."
