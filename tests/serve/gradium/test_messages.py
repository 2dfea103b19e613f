"""Gradium's messages, formats and posted texts, without a server or a model."""

import asyncio
import base64
import json
from typing import Any

import numpy as np
import pytest

from moshi_mlx.errors import ProtocolError
from moshi_mlx.serve.gate.refusal import Refused
from moshi_mlx.serve.protocols.gradium import messages
from moshi_mlx.serve.protocols.gradium.asr import sound_reader
from moshi_mlx.serve.protocols.gradium.tts import Sending, post_tts
from tests.serve.gradium.fakes import (
    fake_service,
)


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "data, words",
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a JSON object"),
        ('{"type": 3}', "not a JSON object with a type"),
        ("{}", "not a JSON object with a type"),
    ],
)
def test_a_message_is_an_object_with_a_type(data, words):
    with pytest.raises(ProtocolError, match=words):
        messages.read_message(data)


def test_fields_are_strings_of_some_length_and_the_first_name_counts():
    assert messages.string({"a": None, "b": "x", "c": 3}, "a", "b", "c") == "x"
    assert messages.string({}, "a") is None
    longest = "x" * 100_000
    assert messages.string({"a": longest}, "a") == longest
    for wrong in (longest + "x", 3, ["x"]):
        with pytest.raises(ProtocolError, match="a must be a string"):
            messages.string({"a": wrong}, "a")


def test_settings_are_an_object_or_the_json_of_one():
    for config, wanted in (({"a": 1}, {"a": 1}), ('{"a": 1}', {"a": 1}), ("", {})):
        assert messages.settings_of({"json_config": config}) == wanted
    assert messages.settings_of({}) == messages.settings_of({"json_config": None}) == {}
    for wrong in ("[1]", "{", "[" * 100_000, 0, False, []):
        with pytest.raises(ProtocolError, match="must be a JSON object"):
            messages.settings_of({"json_config": wrong})


def test_a_rate_has_up_to_six_digits():
    assert messages.is_rate("999999") and messages.is_rate("8000")
    for wrong in ("", "1000000", "8k", "-1", "²"):
        assert not messages.is_rate(wrong)


def test_times_of_sound_have_a_tenth_of_a_millisecond():
    assert messages.audio(b"ab", 0.123456, 1.234567) == {
        **{"type": "audio", "audio": "YWI=", "start_s": 0.1235, "stop_s": 1.2346}
    }


@pytest.mark.parametrize(
    "wanted, data, samples",
    [
        ("pcm", bytes(4800), 2400),
        ("pcm_24000", bytes(4800), 2400),
        ("pcm_48000", bytes(9600), 2400),
        ("ulaw_8000", bytes(800), 2400),
        ("alaw_8000", bytes(800), 2400),
    ],
)
def test_sound_of_every_rate_has_its_length(wanted, data, samples):
    reader = sound_reader(wanted, 24000)
    assert len(reader.push(data)) + len(reader.flush()) == samples


@pytest.mark.parametrize(
    "wanted, hz, media_type, size",
    [
        ("pcm", 48000, "audio/pcm", 7680),
        ("pcm_8000", 8000, "audio/pcm", 1280),
        ("wav", 48000, "audio/wav", 7724),
        ("ulaw_8000", 8000, "audio/pcm", 640),
        ("alaw_8000", 8000, "audio/pcm", 640),
    ],
)
def test_sound_is_sent_in_the_wanted_format(wanted, hz, media_type, size):
    sending = Sending(wanted, 24000)
    data = sending.push(np.full(1920, 0.25, np.float32)) + sending.finish()
    assert (sending.hz, sending.media_type, len(data)) == (hz, media_type, size)


class Posted:
    """A request with a body, whose client stays."""

    def __init__(self, body: bytes):
        self._body = body

    async def stream(self):
        yield self._body

    async def receive(self) -> None:
        await asyncio.Event().wait()


def posted(**fields: Any) -> tuple[str, bytes]:
    async def main() -> tuple[str, bytes]:
        request: Any = Posted(json.dumps(fields).encode())
        answer: Any = await post_tts(fake_service(), request)
        body = b"".join([piece async for piece in answer.body_iterator])
        return answer.media_type, body

    return asyncio.run(main())


def test_a_posted_text_is_answered_with_sound_alone_or_in_messages():
    kind, pcm = posted(text="hello there", output_format="pcm_24000", only_audio=True)
    assert kind == "audio/pcm" and len(pcm) == 2 * 2 * 1920
    assert np.ptp(np.frombuffer(pcm, "<i2")) == 0  # not resampled
    kind, lines = posted(text="olé there", output_format="pcm_24000", only_audio=1)
    assert kind == "application/x-ndjson"
    told = [json.loads(line) for line in lines.splitlines()]
    assert [m["type"] for m in told] == ["audio", "text", "audio", "text"]
    assert told[2]["start_s"] == 0.08 and "olé".encode() in lines


@pytest.mark.parametrize(
    "fields, words",
    [
        ({}, "needs a text"),
        ({"text": "a", "json_config": []}, "json_config"),
        ({"text": "a", "output_format": "mp9"}, "output_format"),
        ({"text": "a", "voice_id": 3}, "voice_id"),
    ],
)
def test_a_posted_text_that_is_wrong_is_refused(fields, words):
    with pytest.raises(Refused, match=words) as refused:
        posted(**fields)
    assert refused.value.status == 422


@pytest.mark.parametrize("body", [b"", b"[1]", b"[" * 100_000])
def test_a_posted_body_that_is_no_object_is_refused(body):
    async def main() -> None:
        request: Any = Posted(body)
        await post_tts(fake_service(), request)

    with pytest.raises(Refused, match="must be a JSON object") as refused:
        asyncio.run(main())
    assert refused.value.status == 422
