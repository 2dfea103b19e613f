"""POST /v1/completions and /v1/chat/completions: continue a text.

Helium is a base model: it continues texts. A conversation is given to it as a text.
"""

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from ...gate.refusal import Refused
from ...replies import begun, unless_gone
from ...service import Service
from ...uploads import body_of
from .asking import TextAsked, read_asked
from .errors import error_event, event

if TYPE_CHECKING:
    from fastapi import Request, Response


class Stop:
    """Cuts a text before the first of some stop texts.

    Attributes:
        found: whether one has come: the text ends there.
    """

    def __init__(self, stops: Sequence[str]):
        self._stops, self._held, self.found = stops, "", False

    def push(self, piece: str) -> str:
        """The text that is safe to send; a possible start of a stop is held back."""
        text = self._held + piece
        ends = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            self.found, self._held = True, ""
            return text[: min(ends)]
        kept = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def finish(self) -> str:
        """The text that was held back."""
        return self._held


def _overlap(text: str, stop: str) -> int:
    """How many of the last letters of ``text`` could start ``stop``."""
    sizes = range(min(len(stop) - 1, len(text)), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)


class Writing:
    """An answer: its pieces, and the events around them.

    Attributes:
        tokens: number written so far.
        reason: why it ended, "stop" or "length"; None before that.
    """

    def __init__(self, service: Service, asked: TextAsked, prompt_tokens: int):
        self._service, self._asked = service, asked
        self._prompt_tokens = prompt_tokens
        text = service.speech.text
        kind = "chatcmpl" if asked.chat else "cmpl"
        self._about = {
            "id": f"{kind}-{uuid.uuid4().hex[:24]}",
            "created": int(time.time()),
            "model": "" if text is None else text.name,
        }
        self.tokens = 0
        self.reason: str | None = None

    async def pieces(self) -> AsyncGenerator[str, None]:
        """The text, as it is written. Raises: NoPlace if too many ask."""
        asked, stop, begins = self._asked, Stop(self._asked.stops), self._asked.chat
        speech = self._service.speech
        written = speech.written(asked.prompt, asked.most, **asked.sampling)
        with speech.job():
            async with aclosing(written) as found:
                async for piece in found:
                    self.tokens += 1
                    text = stop.push(piece)
                    text = text.lstrip() if begins else text
                    if text:
                        begins = False
                        yield text
                    if stop.found:
                        break
        self.reason = "length" if self.tokens >= asked.most else "stop"
        if stop.found:
            self.reason = "stop"
        elif held := stop.finish():
            yield held

    @property
    def usage(self) -> dict[str, int]:
        """How many tokens were read and written."""
        read, wrote = self._prompt_tokens, self.tokens
        total = {"total_tokens": read + wrote}
        return {"prompt_tokens": read, "completion_tokens": wrote, **total}

    def whole(self, text: str) -> dict[str, Any]:
        """The whole answer."""
        said: dict[str, Any] = {"text": text}
        if self._asked.chat:
            said = {"message": {"role": "assistant", "content": text, "refusal": None}}
        return {**self._shown(said, self.reason), "usage": self.usage}

    def part(self, text: str = "", role: bool = False) -> bytes:
        """An event with a piece, or with the end."""
        said: dict[str, Any] = {"text": text}
        if self._asked.chat:
            delta = {"role": "assistant"} if role else {}
            said = {"delta": {**delta, **({"content": text} if text or role else {})}}
        return event(self._shown(said, None if text or role else self.reason, True))

    def count(self) -> bytes:
        """The event with the number of tokens."""
        return event(
            {**self._shown({}, None, True), "choices": [], "usage": self.usage}
        )

    def _shown(
        self, said: dict[str, Any], reason: str | None, part: bool = False
    ) -> dict[str, Any]:
        kind = "text_completion"
        if self._asked.chat:
            kind = "chat.completion.chunk" if part else "chat.completion"
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": reason}
        return {**self._about, "object": kind, "choices": [choice]}


async def complete(service: Service, request: "Request") -> "Response":
    """Continue a text."""
    return await _answer(service, request, chat=False)


async def chat(service: Service, request: "Request") -> "Response":
    """Continue a conversation."""
    return await _answer(service, request, chat=True)


async def _answer(service: Service, request: "Request", chat: bool) -> "Response":
    from fastapi.responses import JSONResponse, StreamingResponse

    asked = read_asked(await body_of(request), chat)
    model = await service.speech.writing()
    tokens = 1 + len(model.tokenizer.encode(asked.prompt))
    if tokens > (most := model.lm.cfg.transformer.context):
        words = f"the prompt has {tokens} tokens; the model remembers {most}."
        where = "messages" if chat else "prompt"
        raise Refused(400, words, where, "context_length_exceeded")
    writing = Writing(service, asked, tokens)
    if asked.events:
        events = await begun(request, _events(writing, asked))
        return StreamingResponse(events, media_type="text/event-stream")

    async def whole() -> str:
        async with aclosing(writing.pieces()) as pieces:
            return "".join([piece async for piece in pieces])

    return JSONResponse(writing.whole(await unless_gone(request, whole())))


async def _events(writing: Writing, asked: TextAsked) -> AsyncGenerator[bytes, None]:
    """The answer while it is written; a later failure ends it."""
    began = False
    try:
        async with aclosing(writing.pieces()) as pieces:
            async for piece in pieces:
                if not began and asked.chat:
                    yield writing.part(role=True)
                began = True
                yield writing.part(piece)
        yield writing.part()
        if asked.counted:
            yield writing.count()
        yield b"data: [DONE]\n\n"
    except Exception as error:
        if not began:
            raise
        yield error_event(error)
