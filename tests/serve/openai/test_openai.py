"""OpenAI's own client, and rude ones, against a server with small models."""

import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from openai import (
    APITimeoutError,
    AuthenticationError,
    NotFoundError,
    OpenAI,
    RateLimitError,
)
from openai import BadRequestError as Bad

import moshi_mlx
from moshi_mlx.audio.encode import FORMATS, encoded
from moshi_mlx.audio.files import read
from moshi_mlx.engines.owner import model_thread
from moshi_mlx.engines.stt import STTModel, files
from moshi_mlx.engines.stt.batch import STTBatch
from moshi_mlx.engines.tts import TTSModel
from moshi_mlx.engines.tts.batch import TTSBatch
from moshi_mlx.errors import ConfigError, MissingExtra
from moshi_mlx.serve.gate.refusal import Refused
from moshi_mlx.serve.gate.security import Policy
from moshi_mlx.serve.lazy import Lazy
from moshi_mlx.serve.protocols.openai import THEIR_VOICES, transcriptions
from moshi_mlx.serve.protocols.openai.errors import refused
from moshi_mlx.serve.protocols.openai.models import read_voice_map
from moshi_mlx.serve.protocols.openai.speech import read_request
from moshi_mlx.serve.speech import SpeechService
from tests.family import listening, translating
from tests.speech import TTS

TEXT = "hello there how are you today"


@pytest.fixture(scope="module")
def stt(tmp_path_factory) -> STTModel:
    return moshi_mlx.load_stt(listening(tmp_path_factory.mktemp("stt")))


@pytest.fixture(scope="module")
def tts() -> TTSModel:
    return moshi_mlx.load_tts(TTS, voice_repo=str(TTS))


def speaking(stt: STTModel, tts: TTSModel, rows: int = 2, **options) -> SpeechService:
    return SpeechService(
        model_thread(),
        Lazy(stt.name, lambda: STTBatch(stt, rows)),
        Lazy(tts.name, lambda: TTSBatch(tts, rows)),
        **options,
    )


@pytest.fixture
def client(serve, stt, tts) -> Iterator[OpenAI]:
    server = serve(speech=speaking(stt, tts, voice_map={"mine": "voice_b.wav"}))
    url = f"http://127.0.0.1:{server.port}/v1"
    with OpenAI(base_url=url, api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    generator = np.random.default_rng(1)
    return generator.normal(0, 0.2, 24000).astype(np.float32)


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


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_is_not_listened_for(
    serve, stt, tts, monkeypatch, stream
):
    steps, listen = [], files._listen

    def counted(*given):
        for step in listen(*given):
            steps.append(step)
            time.sleep(0.005)  # no machine is through before the client hangs up
            yield step

    monkeypatch.setattr(files, "_listen", counted)
    folder = Path(tempfile.gettempdir())
    kept = set(folder.glob("moshi-mlx-*"))
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
            with pytest.raises(APITimeoutError):
                client.audio.transcriptions.create(model="x", file=file, timeout=2)
        until = time.monotonic() + 20
        before = -1
        while len(steps) != before and time.monotonic() < until:
            before = len(steps)
            time.sleep(0.3)
    assert 0 < len(steps) < 1500  # 120 s are as many frames
    assert set(folder.glob("moshi-mlx-*")) == kept


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
        until = time.monotonic() + 20
        while speech.said.open and time.monotonic() < until:
            time.sleep(0.05)
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


def test_what_is_wrong_is_told_in_openais_shape(client, monkeypatch):
    monkeypatch.setattr(transcriptions, "MOST_UPLOAD", 100_000)
    file = ("a.wav", b"RIFF")
    form = {"file": file}
    json_, many = "application/json", [("prompt", "x" * 70_000)]
    cases: list[tuple[str, dict[str, Any], int, str]] = [
        ("/audio/speech", {"content": b"\xff\x00", "type": json_}, 400, "not JSON"),
        ("/audio/speech", {"content": b"[" * 9999, "type": json_}, 400, "not JSON"),
        ("/audio/speech", {"content": b"[]", "type": json_}, 400, "JSON object"),
        ("/audio/speech", {"content": b"x" * 2**21, "type": json_}, 413, "longer"),
        ("/audio/transcriptions", {"content": b"{}", "type": json_}, 400, "multipart"),
        ("/audio/transcriptions", {"files": form}, 400, "file"),
        (
            "/audio/transcriptions",
            {"files": {"file": ("a.wav", b"x" * 200_000)}},
            413,
            "0 MiB at most",
        ),
        (
            "/audio/transcriptions",
            {"files": [*form.items()], "data": dict(many)},
            400,
            "form cannot be read",
        ),
        (
            "/audio/transcriptions",
            {"data": {"file": "a"}, "files": {"f": file}},
            400,
            "no file",
        ),
        (
            "/audio/transcriptions",
            {"files": form, "data": {"response_format": "x"}},
            400,
            "response_format must be",
        ),
        ("/nothing", {"content": b""}, 404, "there is no POST /v1/nothing"),
    ]
    for path, how, status, words in cases:
        kind = how.pop("type", None)
        headers = {"content-type": kind} if kind else {}
        url = f"{str(client.base_url).rstrip('/')}{path}"
        reply = client._client.post(url, headers=headers, **how)
        error = reply.json()["error"]
        assert reply.status_code == status, (path, reply.text)
        assert words in error["message"], reply.text
        assert set(error) == {"message", "type", "param", "code"}
        assert "/tmp" not in error["message"]


def test_any_json_is_read_or_refused():
    chance = random.Random(5)
    values = [None, True, -1, 1e300, "", "mp3", "x" * 50, [], {}, {"id": 3}, ["a"]]
    names = ["input", "voice", "response_format", "stream_format", "speed", "model"]
    good = {"input": "hello", "voice": "alloy"}
    read_well = 0
    for _ in range(200):
        fields = {**good, **{n: chance.choice(values) for n in chance.sample(names, 2)}}
        data = bytearray(json.dumps(fields).encode())
        if chance.random() < 0.3:
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            wanted = read_request(bytes(data))
        except Refused as refusal:
            assert refusal.status == 400
        else:
            assert wanted.text.strip() and wanted.form in FORMATS
            read_well += 1
    assert 10 < read_well < 190


def test_every_method_and_path_below_v1_is_answered_in_openais_shape(client):
    ask = client._client.request
    base = str(client.base_url).rstrip("/")
    assert ask("HEAD", f"{base}/models").status_code == 200
    for method, path in (("OPTIONS", "/audio/speech"), ("GET", ""), ("PUT", "/x/y")):
        reply = ask(method, f"{base}{path}")
        assert reply.status_code == 404
        assert reply.json()["error"]["code"] == "unknown_url"


# Starlette leaves the file of a part that was cut off to Python, which closes it.
@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")
def test_any_form_is_read_or_refused(client):
    """Damaged uploads: a client's error, never ours, and no file is left behind."""
    chance = random.Random(6)
    folder = Path(tempfile.gettempdir())
    before = set(folder.glob("moshi-mlx-*"))
    sound = encoded(np.zeros(2400, np.float32), "wav")
    part = b'--cut\r\nContent-Disposition: form-data; name="'
    good = part + b'file"; filename="a.wav"\r\n\r\n' + sound + b"\r\n"
    good += part + b'response_format"\r\n\r\njson\r\n--cut--\r\n'
    url = f"{str(client.base_url).rstrip('/')}/audio/transcriptions"
    headers = {"content-type": "multipart/form-data; boundary=cut"}
    seen = set()
    for _ in range(200):
        body = bytearray(good)
        heads = [*range(130), *range(len(body) - 90, len(body))]
        for _ in range(chance.randrange(1, 4)):
            body[chance.choice(heads)] = chance.randrange(256)
        if chance.random() < 0.3:
            del body[chance.randrange(len(body)) :]
        reply = client._client.post(url, content=bytes(body), headers=headers)
        seen.add(reply.status_code)
        assert reply.status_code in (200, 400), reply.text
        if reply.status_code == 400:
            assert "/tmp" not in reply.json()["error"]["message"]
    assert seen == {200, 400}
    assert set(folder.glob("moshi-mlx-*")) == before


@pytest.mark.filterwarnings("ignore:deprecated")  # by OpenAI; clients go on using it
def test_a_sound_is_translated_without_a_conversation_beside_it(serve, noise, tmp_path):
    moshi = moshi_mlx.load(str(translating(tmp_path / "hibiki")))
    speech = SpeechService(model_thread(), translate=Lazy("hibiki", lambda: moshi))
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


def test_programs_can_tell_a_missing_extra():
    assert refused(MissingExtra("no av")).code == "missing_extra"
    assert refused(ConfigError("needs the extra 'x'")).code is None


def test_a_map_of_voices_is_read():
    assert read_voice_map(["alloy=a/b.wav", "x = y"]) == {"alloy": "a/b.wav", "x": "y"}
    for wrong in ("alloy", "=b", "a="):
        with pytest.raises(ConfigError, match="write it like alloy=VOICE"):
            read_voice_map([wrong])
