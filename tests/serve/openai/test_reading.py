"""What OpenAI's requests may say, at both ends of every range, without a server."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from starlette.datastructures import FormData

from moshi_mlx.audio.encode import FORMATS
from moshi_mlx.documents.words import Word
from moshi_mlx.engines.stt import Transcript
from moshi_mlx.engines.stt.events import EndOfTurn
from moshi_mlx.errors import AudioError
from moshi_mlx.serve.gate.refusal import Refused
from moshi_mlx.serve.protocols.openai import speech
from moshi_mlx.serve.protocols.openai.asking import TextAsked, read_asked
from moshi_mlx.serve.protocols.openai.speech import Wanted, read_request
from moshi_mlx.serve.protocols.openai.transcriptions import Asked, read_fields
from moshi_mlx.serve.protocols.openai.transcripts import as_json, as_text
from tests.serve.gradium.fakes import FakeVoice


def asked(chat: bool = False, **fields: Any) -> TextAsked:
    return read_asked(json.dumps(fields).encode(), chat)


def test_a_prompt_alone_has_the_usual_settings():
    for prompt in ("a", ["a"]):
        assert asked(prompt=prompt) == TextAsked("a", 256, [], {}, False, False, False)


def test_settings_are_read_at_both_ends_of_their_ranges():
    least = asked(
        **{"prompt": "a", "max_tokens": 1, "temperature": 0, "top_p": 0, "n": 1},
        **{"seed": -1, "stop": "x", "stream": True},
        stream_options={"include_usage": True},
    )
    sampling = {"temp": 0, "top_p": 0, "seed": 2**32 - 1}
    assert least == TextAsked("a", 1, ["x"], sampling, True, True, False)
    most = asked(
        **{"prompt": "a", "max_tokens": 4096, "temperature": 2, "top_p": 1.0},
        **{"seed": 2**63 - 1, "stop": ["x" * 200] * 4, "stream": 1},
        stream_options={"include_usage": 1},
    )
    sampling = {"temp": 2, "top_p": 1.0, "seed": 2**32 - 1}
    assert most == TextAsked("a", 4096, ["x" * 200] * 4, sampling, False, False, False)
    assert asked(prompt="a", seed=-(2**63)).sampling == {"seed": 0}
    assert not asked(prompt="a", stream_options=[]).counted


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("max_tokens", 4097, "max_tokens must be a whole number from 1 to 4096"),
        ("max_tokens", 2.0, "a whole number"),
        ("temperature", 2.01, "temperature must be a number from 0 to 2"),
        ("temperature", -0.01, "from 0 to 2"),
        ("top_p", 1.01, "top_p must be a number from 0 to 1"),
        ("top_p", -0.01, "from 0 to 1"),
        ("seed", 2**63, "seed must be a whole number"),
        ("seed", -(2**63) - 1, "seed must be a whole number"),
        ("stop", ["x" * 201], "stop must be a text, or up to 4"),
        ("stop", ["x", 1], "stop must be"),
        ("n", 0, "n must be 1"),
    ],
)
def test_a_setting_outside_its_range_is_named(name, value, words):
    with pytest.raises(Refused, match=words) as refused:
        asked(prompt="a", **{name: value})
    assert (refused.value.status, refused.value.param) == (400, name)


def test_a_conversation_is_a_text_to_go_on_with():
    parts = [{"type": "text", "text": "how are"}, "you"]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "Fine."},
    ]
    got = asked(True, messages=messages, max_completion_tokens=7, stop=["x"])
    assert got.prompt == (
        "Be brief.\nBe kind.\nUser: how are you\nAssistant: Fine.\nAssistant:"
    )
    assert (got.most, got.stops, got.chat) == (7, ["x", "\nUser:"], True)
    assert (
        asked(True, messages=messages, max_tokens=5, max_completion_tokens=7).most == 5
    )
    assert asked(prompt="a", max_completion_tokens=7).most == 256


@pytest.mark.parametrize(
    "fields, param",
    [
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"max_completion_tokens": 4097}, "max_completion_tokens"),
        ({"messages": [{"role": "x", "content": "a"}]}, "messages"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages"),
        ({"messages": [{"role": "user", "content": [3]}]}, "messages"),
        ({"messages": {}}, "messages"),
    ],
)
def test_what_is_wrong_with_a_conversation_is_a_client_s_fault(fields, param):
    said = [{"role": "user", "content": "a"}]
    assert asked(True, messages=said, max_completion_tokens=1).most == 1
    with pytest.raises(Refused) as refused:
        asked(True, **{"messages": said, **fields})
    assert (refused.value.status, refused.value.param) == (400, param)


def wanted(**fields: Any) -> Wanted:
    return read_request(json.dumps({"input": "a", **fields}).encode())


def test_a_text_to_say_is_read_with_its_settings():
    assert wanted() == Wanted("a", None, "mp3", False, None)
    got = wanted(
        **{"voice": {"id": "v"}, "response_format": "wav", "stream_format": "sse"},
        **{"speed": 1.0, "seed": 0},
    )
    assert got == Wanted("a", {"id": "v"}, "wav", True, 0)
    assert wanted(stream_format="audio", seed=2**53 - 1).seed == 2**53 - 1
    assert wanted(input="x" * 20_000).text == "x" * 20_000


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("input", "x" * 20_001, "20000 characters, not 20001"),
        ("input", " \n", "a text with words"),
        ("input", 3, "a text with words"),
        ("response_format", "mp9", "response_format must be one of"),
        ("response_format", ["mp3"], "response_format must be one of"),
        ("stream_format", "x", "stream_format must be one of audio, sse"),
        ("speed", True, "from 0.25 to 4"),
        ("speed", 0.2, "from 0.25 to 4"),
        ("speed", 4.1, "from 0.25 to 4"),
        ("speed", "1", "from 0.25 to 4"),
        ("speed", 0.25, "at speed 1 only"),
        ("speed", 4, "at speed 1 only"),
        ("seed", -1, "seed must be a whole number"),
        ("seed", 2**53, "seed must be a whole number"),
        ("seed", 1.0, "seed must be a whole number"),
        ("seed", True, "seed must be a whole number"),
    ],
)
def test_what_is_wrong_with_a_text_to_say_is_named(name, value, words):
    with pytest.raises(Refused, match=words) as refused:
        wanted(**{name: value})
    assert (refused.value.status, refused.value.param) == (400, name)


class Saying:
    """A service whose voice may fail after some frames."""

    def __init__(self, frames: int, error: Exception | None = None):
        self.frames, self.error = frames, error
        self.speech = self
        self.asked: list[tuple[str, int | None]] = []

    async def speak(self, voice: str, seed: int | None = None) -> FakeVoice:
        self.asked.append((voice, seed))
        outer = self

        class Voice(FakeVoice):
            async def __aiter__(self):
                assert self.text == "hello there" and self.finished.is_set()
                for _ in range(outer.frames):
                    yield np.full(1920, 0.25, np.float32)
                if outer.error is not None:
                    raise outer.error

        return Voice()


def sounded(service: Saying, events: bool, form: str = "pcm") -> list[bytes]:
    async def main() -> list[bytes]:
        asked = Wanted("hello there", None, form, events, 5)
        encoder = FORMATS[form].make(24000)
        pieces = speech._sound(cast(Any, service), asked, "v", encoder)
        return [piece async for piece in pieces]

    return asyncio.run(main())


def test_a_speech_comes_in_bytes_or_in_events():
    service = Saying(2)
    assert [len(piece) for piece in sounded(service, False)] == [3840, 3840]
    assert service.asked == [("v", 5)]
    first, _, done = (json.loads(e[6:-2]) for e in sounded(Saying(2), True))
    assert first["type"] == "speech.audio.delta"
    assert len(base64.b64decode(first["audio"])) == 3840
    usage = {"input_tokens": 2, "output_tokens": 0, "total_tokens": 2}
    assert done == {"type": "speech.audio.done", "usage": usage}
    wav = b"".join(sounded(Saying(1), False, "flac"))
    assert wav[:4] == b"fLaC"


def test_a_failure_is_an_event_once_there_was_sound_and_a_status_before():
    failed = sounded(Saying(1, AudioError("no more.")), True)
    assert json.loads(failed[-1][6:-2])["error"]["message"] == "no more."
    for frames, events in ((0, True), (1, False)):
        with pytest.raises(AudioError):
            sounded(Saying(frames, AudioError("no more.")), events)


def fields(*pairs: tuple[str, Any]) -> Asked:
    return read_fields(FormData(list(pairs)), Path("f"))


def test_the_fields_of_a_form_are_read():
    assert fields() == Asked(Path("f"), "json", "en", "", False, False)
    got = fields(
        *(("response_format", "text"), ("language", "x" * 30), ("stream", "TRUE")),
        *(("prompt", "p" * 3000), ("timestamp_granularities[]", "segment")),
        ("timestamp_granularities", "word"),
    )
    assert got == Asked(Path("f"), "text", "x" * 20, "p" * 2000, True, True)
    for said, events in (("1", True), ("false", False), ("0", False), ("", False)):
        assert fields(("stream", said)).events is events
    assert fields(("language", "")).language == "en"
    assert not fields(("timestamp_granularities[]", "segment")).words


@pytest.mark.parametrize(
    "pairs, words, param",
    [
        ([("response_format", "x")], "must be one of json, text", "response_format"),
        ([("stream", "yes")], "stream must be true or false", "stream"),
        (
            [("timestamp_granularities[]", "word"), ("timestamp_granularities", "x")],
            *("are word and segment, not 'x'", "timestamp_granularities"),
        ),
        *(
            (
                [("stream", "1"), ("response_format", form)],
                f"{form} is given whole",
                "stream",
            )
            for form in ("srt", "vtt", "verbose_json")
        ),
        ([("language", FormData())], "language must be a text", "language"),
    ],
)
def test_what_is_wrong_with_a_field_is_named(pairs, words, param):
    with pytest.raises(Refused, match=words) as refused:
        fields(*pairs)
    assert (refused.value.status, refused.value.param) == (400, param)


SPOKEN = [Word("hello", 0.2, 0.5), Word("there", 0.6, 1.0), Word("yes", 3.0, 3.25)]


@pytest.fixture(scope="module")
def found() -> Transcript:
    return Transcript.of([*SPOKEN[:2], EndOfTurn(1.5), SPOKEN[2]], 4.00049)


def test_a_transcript_has_openais_forms(found):
    usage = {"type": "duration", "seconds": 4.0}
    text = found.text
    assert as_json(found, "json", "en", True) == {"text": text, "usage": usage}
    verbose = as_json(found, "verbose_json", "fr", True)
    assert (verbose["task"], verbose["language"]) == ("transcribe", "fr")
    assert (verbose["duration"], verbose["text"], verbose["usage"]) == (
        4.0,
        text,
        usage,
    )
    assert verbose["words"] == [
        {"word": w.text, "start": w.start_s, "end": w.end_s} for w in SPOKEN
    ]
    assert "words" not in as_json(found, "verbose_json", "fr", False)
    first, second = verbose["segments"]
    assert first == {
        **{"id": 0, "seek": 0, "start": 0.2, "end": 1.0, "text": "hello there"},
        **{"tokens": [], "temperature": 0.0, "avg_logprob": 0.0},
        **{"compression_ratio": 1.0, "no_speech_prob": 0.0},
    }
    assert (second["id"], second["start"], second["end"]) == (1, 3.0, 3.25)
    told = as_json(found, "diarized_json", "en", True, "translate")
    assert told["task"] == "translate" and "words" not in told
    assert told["segments"][1]["id"] == "seg_1"
    assert told["segments"][1]["speaker"] == "A"
    assert as_text(found, "text") == text + "\n"
    assert as_text(found, "vtt").startswith("WEBVTT") and "-->" in as_text(found, "vtt")
    assert as_text(found, "srt").startswith("1\n")
