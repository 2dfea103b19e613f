"""OpenAI's own client against a server with small models."""

import http.client
import json
import tempfile
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from openai import (
    AuthenticationError,
    NotFoundError,
    OpenAI,
    RateLimitError,
)
from openai import BadRequestError as Bad

import moshi_mlx
from moshi_mlx.audio.encode import FORMATS, encoded
from moshi_mlx.audio.files import read
from moshi_mlx.engines.duplex.batch import Batch
from moshi_mlx.engines.owner import model_thread
from moshi_mlx.engines.stt import files
from moshi_mlx.serve.gate.security import Policy
from moshi_mlx.serve.lazy import Lazy
from moshi_mlx.serve.protocols.openai.models import THEIR_VOICES
from moshi_mlx.serve.speech import SpeechService
from tests.family import translating
from tests.serve.client import PATIENCE_S
from tests.serve.openai.speaking import speaking

TEXT = "hello there how are you today"


def test_models_are_listed_and_found_by_names_with_slashes(client, tts):
    names = [model.id for model in client.models.list()]
    assert len(names) == 2 and tts.name in names
    assert client.models.retrieve(tts.name).id == tts.name
    assert client.get(f"/models/{tts.name}", cast_to=object)["id"] == tts.name
    with pytest.raises(NotFoundError, match="there is no model 'gpt-9' here"):
        client.models.retrieve("gpt-9")


@pytest.mark.parametrize("form", FORMATS)
def test_a_text_is_spoken_in_every_format(client, form):
    reply = client.audio.speech.create(
        model="tts-1", voice="alloy", input=TEXT, response_format=form
    )
    assert reply.response.headers["content-type"] == FORMATS[form].media_type
    data = reply.content
    heard = np.frombuffer(data, "<i2") / 32768 if form == "pcm" else read(data)[0]
    assert 1.0 < len(heard) / 24000 < 20 and np.abs(heard).max() > 1e-4


def test_speech_comes_in_chunks_and_in_events(client):
    asked: Any = {"model": "x", "voice": "mine", "input": TEXT}
    chunks = []
    with client.audio.speech.with_streaming_response.create(
        **asked, response_format="pcm"
    ) as streamed:
        chunks = list(streamed.iter_bytes(4096))
    assert len(chunks) > 3
    told = client.audio.speech.create(
        **asked, response_format="pcm", stream_format="sse"
    ).text
    events = [json.loads(line[6:]) for line in told.splitlines() if line]
    kinds = [event["type"] for event in events]
    assert kinds[-1] == "speech.audio.done"
    assert set(kinds[:-1]) == {"speech.audio.delta"} and len(kinds) > 4


def test_all_of_openais_voices_are_known_and_others_refused(client):
    for voice in THEIR_VOICES[:3]:
        client.audio.speech.create(model="x", voice=voice, input="hello")
    listed = client.get("/audio/voices", cast_to=object)["voices"]
    names = {voice["id"] for voice in listed}
    assert {"mine", "voice_a.wav", *THEIR_VOICES} <= names
    with pytest.raises(Bad, match="no voice 'nobody'"):
        client.audio.speech.create(model="x", voice="nobody", input="hello")


def test_voices_are_listed_for_the_first_text_and_for_unknown_names(client, tts):
    asked: Any = {"model": "x", "input": "hello"}
    with patch.object(tts, "voices", wraps=tts.voices) as listed:
        for _ in range(2):
            client.audio.speech.create(voice="alloy", **asked)
        assert listed.call_count == 1
        with pytest.raises(Bad, match="no voice 'nobody'"):
            client.audio.speech.create(voice="nobody", **asked)
        assert listed.call_count == 2


def test_a_sound_is_transcribed_in_every_form(client, noise, stt):
    expected = stt.transcribe(noise)
    file = ("a.flac", encoded(noise, "flac"))

    def ask(form: str, **more):
        return client.audio.transcriptions.create(
            model="whisper-1", file=file, response_format=form, **more
        )

    assert expected.words, "the echo says nothing: this test proves nothing"
    assert ask("json").text == expected.text
    assert ask("text").strip() == expected.text
    assert ask("srt") == expected.to_srt()
    assert ask("vtt") == expected.to_vtt()
    verbose = ask("verbose_json", timestamp_granularities=["word", "segment"])
    assert [w.word for w in verbose.words] == [w.text for w in expected.words]
    assert [s.text for s in verbose.segments] == [t.text for t in expected.turns]
    assert verbose.duration == pytest.approx(1.0, abs=0.1)
    assert ask("diarized_json").segments[0].text == expected.turns[0].text


def test_words_come_while_they_are_recognised(client, noise, stt):
    deltas, done = [], []
    for event in client.audio.transcriptions.create(
        model="x", file=("a.wav", encoded(noise, "wav")), stream=True
    ):
        (deltas if event.type == "transcript.text.delta" else done).append(event)
    assert len(deltas) > 1
    assert "".join(d.delta for d in deltas) == done[0].text
    assert done[0].text == stt.transcribe(noise).text


def test_a_full_server_says_when_to_come_again(serve, stt, tts, noise):
    speech = speaking(stt, tts, rows=1, jobs=0)
    assert speech.tts is not None
    batch = speech.tts.load()
    batch.open(batch.voice("voice_a.wav"))
    server = serve(speech=speech)
    with OpenAI(base_url=server.url("/v1"), api_key="none", max_retries=0) as client:
        file = ("a.wav", encoded(noise, "wav"))
        for ask in (
            lambda: client.audio.speech.create(model="x", voice="ash", input="hello"),
            lambda: client.audio.transcriptions.create(model="x", file=file),
            lambda: client.audio.transcriptions.create(
                model="x", file=file, stream=True
            ),
        ):
            with pytest.raises(RateLimitError) as caught:
                ask()
            assert caught.value.response.headers["retry-after"] == "1"


def eventually(so: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not so():
        assert time.monotonic() < until
        time.sleep(0.02)


def hang_up_when(so: Callable[[], bool], port: int, sound: bytes) -> None:
    """Ask for a transcription, and leave while the server is at work."""
    about = b'Content-Disposition: form-data; name="file"; filename="a.wav"'
    body = b"--x\r\n" + about + b"\r\n\r\n" + sound + b"\r\n--x--\r\n"
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    line = http.client.HTTPConnection("localhost", port)
    line.request("POST", "/v1/audio/transcriptions", body, form)
    eventually(so)
    line.close()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_is_not_listened_for(
    serve, stt, tts, monkeypatch, tmp_path, stream
):
    steps, listen = [], files._listen

    def counted(*given):
        for step in listen(*given):
            steps.append(step)
            time.sleep(0.005)  # no machine is through before the client hangs up
            yield step

    monkeypatch.setattr(files, "_listen", counted)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    server = serve(speech=speaking(stt, tts, jobs=1))
    sound = np.random.default_rng(2).normal(0, 0.2, 120 * 24000).astype(np.float32)
    with OpenAI(base_url=server.url("/v1"), api_key="none", max_retries=0) as client:
        file = ("a.wav", encoded(sound, "wav"))
        if stream:
            with client.audio.transcriptions.create(
                model="x", file=file, stream=True
            ) as events:
                next(iter(events))
        else:
            hang_up_when(lambda: bool(steps), server.port, file[1])
        eventually(lambda: not list(tmp_path.iterdir()))
    assert 0 < len(steps) < 1500  # 120 s are as many frames


def test_a_place_is_free_again_after_a_client_hangs_up(serve, stt, tts):
    speech = speaking(stt, tts, rows=1)
    server = serve(speech=speech)
    with OpenAI(base_url=server.url("/v1"), api_key="none", max_retries=0) as client:
        asked: Any = {"model": "x", "voice": "ash", "input": f"{TEXT} " * 500}
        with client.audio.speech.with_streaming_response.create(
            **asked, response_format="pcm"
        ) as reply:
            sound = reply.iter_bytes(100)
            assert next(sound)
            with pytest.raises(RateLimitError):
                client.audio.speech.create(model="x", voice="ash", input="hello")
        eventually(lambda: not speech.said.open)
        client.audio.speech.create(model="x", voice="ash", input="hello")


def test_without_models_and_without_the_token_errors_are_openais(serve):
    server = serve(policy=Policy(token="a-secret-word"))
    for key, kind, words in (
        ("wrong", AuthenticationError, "needs its token"),
        ("a-secret-word", NotFoundError, "no model that speaks: start it with --tts"),
    ):
        with (
            OpenAI(base_url=server.url("/v1"), api_key=key, max_retries=0) as client,
            pytest.raises(kind, match=words),
        ):
            client.audio.speech.create(model="x", voice="ash", input="hello")


@pytest.mark.filterwarnings("ignore:deprecated")  # by OpenAI; clients go on using it
def test_a_sound_is_translated_without_a_conversation_beside_it(serve, noise, tmp_path):
    moshi = moshi_mlx.load(str(translating(tmp_path / "hibiki")))
    speech = SpeechService(
        model_thread(), translate=Lazy("hibiki", lambda: Batch(moshi, 1))
    )
    server = serve(batch=None, speech=speech)
    file = ("a.wav", encoded(noise, "wav"))
    with OpenAI(base_url=server.url("/v1"), api_key="none", max_retries=0) as client:
        said = client.audio.translations.create(model="hibiki", file=file)
        assert isinstance(said.text, str)
        as_srt: Any = client.audio.translations.create(
            model="x", file=file, response_format="srt"
        )
        assert isinstance(as_srt, str)
        assert [model.id for model in client.models.list()] == ["hibiki"]
        with pytest.raises(NotFoundError, match="start it with --stt"):
            client.audio.transcriptions.create(model="x", file=file)
        build = client._client.get(server.url("/api/build_info")).json()
        assert "defaults" not in build and build["model"] == ""
