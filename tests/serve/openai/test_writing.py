"""OpenAI's answers of text and its errors, event by event, without a model."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.requests import ClientDisconnect

from moshi_mlx.errors import (
    ConfigError,
    MissingExtra,
    NoPlace,
    NotServed,
)
from moshi_mlx.serve.gate.refusal import Refused
from moshi_mlx.serve.protocols.openai import completions
from moshi_mlx.serve.protocols.openai.asking import TextAsked
from moshi_mlx.serve.protocols.openai.completions import Stop, Writing
from moshi_mlx.serve.protocols.openai.errors import error_event, refused, shape


class Writer:
    """A service whose model writes what it is told to write."""

    def __init__(self, *pieces: str, error: Exception | None = None):
        self.pieces, self.error = pieces, error
        self.speech, self.text = self, SimpleNamespace(name="helium")
        self.asked: list[Any] = []
        self.jobs = self.closed = 0

    @contextlib.contextmanager
    def job(self) -> Iterator[None]:
        self.jobs += 1
        try:
            yield
        finally:
            self.jobs -= 1

    async def written(self, *asked: Any, **sampling: Any) -> AsyncIterator[str]:
        self.asked.append((*asked, sampling))
        assert self.jobs == 1
        try:
            for piece in self.pieces:
                yield piece
            if self.error is not None:
                raise self.error
        finally:
            self.closed += 1


def asked(chat: bool = False, most: int = 9, **more: Any) -> TextAsked:
    stops, sampling = more.get("stops", []), {"temp": 0.5}
    counted = more.get("counted", False)
    return TextAsked("prompt", most, stops, sampling, True, counted, chat)


def write(service: Writer, wanted: TextAsked) -> tuple[str, Writing]:
    async def main() -> tuple[str, Writing]:
        writing = Writing(cast(Any, service), wanted, 4)
        text = "".join([piece async for piece in writing.pieces()])
        assert service.jobs == 0 and service.closed == 1
        return text, writing

    return asyncio.run(main())


def events(service: Writer, wanted: TextAsked) -> list[Any]:
    async def main() -> list[bytes]:
        writing = Writing(cast(Any, service), wanted, 4)
        return [e async for e in completions._events(writing, wanted)]

    told = asyncio.run(main())
    assert all(e.startswith(b"data: ") and e.endswith(b"\n\n") for e in told)
    return [e if b"[DONE]" in e else json.loads(e[6:-2]) for e in told]


def test_a_text_ends_with_its_reason_and_its_tokens():
    service = Writer(" one", " two")
    text, writing = write(service, asked())
    assert (text, writing.reason, writing.tokens) == (" one two", "stop", 2)
    assert service.asked == [("prompt", 9, {"temp": 0.5})]
    usage = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
    whole = writing.whole(text)
    assert whole.pop("id").startswith("cmpl-") and whole.pop("created") > 1e9
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": "stop"}
    assert whole == {
        **{"model": "helium", "object": "text_completion", "choices": [choice]},
        "usage": usage,
    }
    _, writing = write(Writer("a", "b"), asked(most=2))
    assert writing.reason == "length"


def test_a_stop_text_ends_the_answer_and_the_model():
    service = Writer("one\nUs", "er: x", "never")
    text, writing = write(service, asked(True, 2, stops=["\nUser:"]))
    assert (text, writing.reason, writing.tokens) == ("one", "stop", 2)
    text, _ = write(Writer("one\nUs"), asked(stops=["\nUser:"]))
    assert text == "one\nUs"


def test_of_several_stop_texts_the_first_in_the_answer_counts():
    stop = Stop(["two", "one"])
    assert stop.push("a one two") == "a " and stop.found and stop.finish() == ""
    stop = Stop(["ab"])
    assert stop.push("xaa") == "xa" and stop.push("c") == "ac"
    assert not stop.found and stop.push("ab") == "" and stop.found
    stop = Stop([])
    assert stop.push("abc") == "abc" and stop.finish() == ""
    stop = Stop(["abcd", "cx"])
    assert stop.push("-abc") == "-" and stop.push("d") == ""  # the longer start is held


def test_a_message_begins_without_white_space():
    text, writing = write(Writer(" ", "\n Hello", " there"), asked(chat=True))
    assert text == "Hello there"
    message = {"role": "assistant", "content": text, "refusal": None}
    whole = writing.whole(text)
    assert whole["choices"][0]["message"] == message
    assert whole["object"] == "chat.completion"
    assert whole["id"].startswith("chatcmpl-")


def test_a_text_comes_in_events():
    told = events(Writer("a", "b"), asked(counted=True))
    assert [e["choices"][0]["text"] for e in told[:3]] == ["a", "b", ""]
    reasons = [e["choices"][0]["finish_reason"] for e in told[:3]]
    assert reasons == [None, None, "stop"]
    assert told[3]["choices"] == [] and told[3]["usage"]["total_tokens"] == 6
    assert told[4] == b"data: [DONE]\n\n"
    assert {e["object"] for e in told[:4]} == {"text_completion"}
    assert len(events(Writer("a"), asked())) == 3
    held = events(Writer("a\nUs"), asked(stops=["\nUser:"]))[:-1]
    told = [(e["choices"][0]["text"], e["choices"][0]["finish_reason"]) for e in held]
    assert told == [("a", None), ("\nUs", None), ("", "stop")]


def test_a_message_comes_in_events():
    last = events(Writer("a"), asked(chat=True, counted=True))[-2]
    assert (last["object"], last["choices"]) == ("chat.completion.chunk", [])
    told = events(Writer("a", "b"), asked(chat=True))
    deltas = [e["choices"][0]["delta"] for e in told[:-1]]
    first = {"role": "assistant", "content": ""}
    assert deltas == [first, {"content": "a"}, {"content": "b"}, {}]
    assert {e["object"] for e in told[:-1]} == {"chat.completion.chunk"}
    reasons = [e["choices"][0]["finish_reason"] for e in told[:-1]]
    assert reasons == [None, None, None, "stop"]


def test_every_start_of_a_stop_text_is_held_back():
    for size in range(1, 6):
        stop = Stop(["abcdef"])
        assert stop.push("-" + "abcdef"[:size]) == "-"
        assert stop.finish() == "abcdef"[:size]


class Posted:
    """A request with a body, whose client stays."""

    def __init__(self, **fields: Any):
        self._body = json.dumps(fields).encode()

    async def stream(self) -> AsyncIterator[bytes]:
        yield self._body

    async def receive(self) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    "answer, fields, kind, param",
    [
        (completions.complete, {"prompt": "abcd"}, "text_completion", "prompt"),
        (
            completions.chat,
            {"messages": [{"role": "user", "content": "abcd"}]},
            *("chat.completion", "messages"),
        ),
    ],
)
def test_a_prompt_may_be_as_long_as_the_model_remembers(answer, fields, kind, param):
    async def asked_of(most: int) -> Any:
        cfg = SimpleNamespace(transformer=SimpleNamespace(context=most))
        tokenizer = SimpleNamespace(encode=lambda text: list(text[-4:]))
        model = SimpleNamespace(tokenizer=tokenizer, lm=SimpleNamespace(cfg=cfg))

        async def writing() -> Any:
            return model

        service: Any = Writer("x")
        service.writing = writing
        return await answer(service, cast(Any, Posted(**fields)))

    told = json.loads(asyncio.run(asked_of(5)).body)
    assert told["object"] == kind and told["usage"]["prompt_tokens"] == 5
    with pytest.raises(Refused, match="has 5 tokens; the model remembers 4") as refused:
        asyncio.run(asked_of(4))
    assert refused.value.param == param
    assert refused.value.code == "context_length_exceeded"


def test_a_failure_is_an_event_once_something_was_written():
    told = events(Writer("a", error=ConfigError("no more.")), asked())
    assert told[-1]["error"]["message"] == "no more."
    with pytest.raises(ConfigError):
        events(Writer(error=ConfigError("no more.")), asked())


@pytest.mark.parametrize(
    "error, status, kind, code, param",
    [
        (NoPlace("a"), 429, "rate_limit_error", "rate_limit_exceeded", None),
        (NotServed("a"), 404, "not_found_error", "model_not_found", "model"),
        (MissingExtra("a"), 400, "invalid_request_error", "missing_extra", None),
        (ConfigError("a"), 400, "invalid_request_error", None, None),
        (Refused(401, "a"), 401, "authentication_error", None, None),
        (Refused(403, "a", "p", "c"), 403, "permission_error", "c", "p"),
        (Refused(503, "a"), 503, "server_error", None, None),
    ],
)
def test_an_error_has_openais_shape(error, status, kind, code, param):
    found = refused(error)
    assert found.status == status
    media, body = shape(found)
    wanted = {"message": "a", "type": kind, "param": param, "code": code}
    assert media == "application/json" and json.loads(body) == {"error": wanted}
    told = json.loads(error_event(error)[6:-2])
    assert told == {"type": "error", "error": wanted}


def test_a_full_server_says_when_to_come_again():
    assert dict(refused(NoPlace("a")).headers or {}) == {"retry-after": "1"}


def test_a_path_of_ours_is_not_told():
    error = ConfigError("/tmp/x/sound is no sound.")
    assert refused(error, "/tmp/x/sound").words == "the file is no sound."


def test_what_the_server_did_wrong_is_logged_not_told(caplog):
    found = refused(RuntimeError("secret"))
    assert found.status == 500 and "secret" not in found.words
    assert json.loads(shape(found)[1])["error"]["type"] == "server_error"
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and record.exc_info
    caplog.clear()
    for gone in (ClientDisconnect(), BrokenPipeError()):
        assert refused(gone).status == 499
    assert not caplog.records
