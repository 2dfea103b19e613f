"""Gradium's own client, and what it does not do, against small models."""

import asyncio
import base64
import gc
import json
import random
from types import SimpleNamespace
from typing import Any, cast
from urllib.request import Request, urlopen

import numpy as np
import pytest
from gradium.client import GradiumClient
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from moshi_mlx.engines.stt.events import WordBegun
from moshi_mlx.serve.protocols.gradium import requests
from moshi_mlx.serve.protocols.gradium.asr import Flushes
from moshi_mlx.serve.protocols.gradium.tts import Sending, post_tts
from tests.listening import noise
from tests.serve.client import PATIENCE_S
from tests.serve.small import VOICE, small

TEXT = "hello there how are you today in paris"


def client_of(server) -> Any:
    return GradiumClient(base_url=server.url("/api/"), api_key="any")


def talk(server, path: str):
    return connect(f"ws://localhost:{server.port}{path}", max_size=None)


def tell(socket, kind: str, **fields) -> None:
    socket.send(json.dumps({"type": kind, **fields}))


def told(socket, until: str, id: str | None = None) -> list[dict]:
    messages: list[dict] = []
    while not messages or messages[-1]["type"] != until:
        message = json.loads(socket.recv(timeout=PATIENCE_S))
        if id is None or message.get("client_req_id") == id:
            messages.append(message)
        assert message["type"] != "error" or until == "error", message
    return messages


@pytest.fixture
def server(serve):
    return serve(speech=small())


def said_alone(speech) -> np.ndarray:
    async def say() -> np.ndarray:
        pieces = [s.pcm async for s in speech.spoken(TEXT, VOICE, 20)]
        return np.concatenate([pcm for pcm in pieces if pcm is not None])

    return asyncio.run(say())


def test_gradiums_client_hears_the_words_and_times_of_a_text(server):
    whole = said_alone(server.service.speech)
    setup = {"voice_id": VOICE, "output_format": "pcm_24000"}
    result = asyncio.run(client_of(server).tts(setup, TEXT.split()))
    np.testing.assert_allclose(result.pcm(), whole, atol=2e-4)
    assert [t.text for t in result.text_with_timestamps] == TEXT.split()
    assert result.sample_rate == 24000
    setup = {"voice_id": "YTpq7expH9539ERJ", "output_format": "pcm"}
    result = asyncio.run(client_of(server).tts(setup, TEXT))
    assert result.sample_rate == 48000
    assert len(result.pcm()) > 0


def test_gradiums_client_reads_the_words_of_a_sound(server):
    pcm = np.rint(noise(2.0, 3) * 32767).astype(np.int16)

    async def alone() -> list[str]:
        async with await server.service.speech.listen(20) as ears:
            await ears.put(pcm)
            await ears.end()
            return [event.text async for event in ears if isinstance(event, WordBegun)]

    words = asyncio.run(alone())
    result = asyncio.run(
        client_of(server).stt({"input_format": "pcm"}, pcm, sample_rate=24000)
    )
    assert result.text.split() == words
    assert words


def test_steps_flushes_and_ends_of_words_are_told(server):
    pcm = np.rint(noise(1.0, 3) * 32767).astype("<i2").tobytes()
    with talk(server, "/api/speech/asr") as socket:
        tell(socket, "setup", input_format="pcm", json_config='{"language": "en"}')
        ready = told(socket, "ready")[0]
        assert (ready["sample_rate"], ready["frame_size"]) == (24000, 1920)
        assert ready["delay_in_frames"] == ready["delay_in_tokens"] == 6
        tell(socket, "audio", audio=base64.b64encode(pcm).decode())
        tell(socket, "flush", flush_id="seven")
        before = told(socket, "flushed")
        assert before[-1]["flush_id"] == "seven"
        tell(socket, "end_of_stream")
        after = told(socket, "end_of_stream")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=PATIENCE_S)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1000
    steps = [m for m in before if m["type"] == "step"]
    assert [v["horizon_s"] for v in steps[0]["vad"]] == [0.5, 1.0, 2.0, 3.0]
    assert len(steps) >= 12
    texts = [m for m in before + after if m["type"] == "text"]
    ends = [m for m in before + after if m["type"] == "end_text"]
    assert len(texts) == len(ends) > 0


def test_requests_that_overlap_on_a_socket_are_told_apart(server):
    whole = said_alone(server.service.speech)
    with talk(server, "/api/speech/tts") as socket:
        setup = {"voice_id": VOICE, "output_format": "pcm_24000"}
        for id in "ab":
            tell(socket, "setup", client_req_id=id, close_ws_on_eos=False, **setup)
        for word in TEXT.split():
            for id in "ab":
                tell(socket, "text", text=word, client_req_id=id)
        for id in "ab":
            tell(socket, "end_of_stream", client_req_id=id)
        messages = []
        while sum(m["type"] == "end_of_stream" for m in messages) < 2:
            messages.append(json.loads(socket.recv(timeout=PATIENCE_S)))
            assert messages[-1]["type"] != "error", messages[-1]
        for id in "ab":
            mine = [m for m in messages if m.get("client_req_id") == id]
            assert mine[0]["type"] == "ready"
            data = b"".join(base64.b64decode(m.get("audio", "")) for m in mine)
            pcm = np.frombuffer(data, "<i2") / np.float32(32767)
            np.testing.assert_allclose(pcm, whole, atol=2e-4)
        tell(socket, "setup", client_req_id="c", close_ws_on_eos=False, **setup)
        tell(socket, "end_of_stream", client_req_id="c")
        assert told(socket, "end_of_stream")[0]["type"] == "ready"


def test_a_posted_text_comes_back_as_sound_or_as_messages(server):
    def post(**fields) -> tuple[str, bytes]:
        data = json.dumps({"text": TEXT, "voice_id": VOICE, **fields}).encode()
        request = Request(server.url("/api/post/speech/tts"), data)
        with urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.headers["content-type"], answer.read()

    kind, wav = post(output_format="wav", only_audio=True)
    assert kind == "audio/wav" and wav[:4] == b"RIFF"
    assert np.abs(np.frombuffer(wav[44:], "<i2")).max() > 0
    _, lines = post(output_format="pcm_24000")
    messages = [json.loads(line) for line in lines.splitlines()]
    assert [m["text"] for m in messages if m["type"] == "text"] == TEXT.split()
    kind, ogg = post(output_format="opus", only_audio=True)
    assert kind == "audio/ogg" and ogg[:4] == b"OggS"


@pytest.mark.parametrize(
    ("setup", "words"),
    [
        ({"output_format": "mp9"}, "output_format"),
        ({"json_config": "[1]"}, "json_config"),
        ({"voice_id": 7}, "voice_id"),
        ({"output_format": "pcm_1"}, "sample rate"),
    ],
)
def test_what_is_wrong_is_said_and_ends_the_socket(server, setup, words):
    with talk(server, "/api/speech/tts") as socket:
        tell(socket, "setup", **setup)
        error = told(socket, "error")[-1]
        assert words in error["message"] and error["code"] == 1008
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=PATIENCE_S)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008


def test_whoever_hangs_up_leaves_no_row_taken(server):
    speech = server.service.speech
    for _ in range(4):
        for path in ("/api/speech/tts", "/api/speech/asr"):
            with talk(server, path) as socket:
                tell(socket, "setup", input_format="pcm")
                told(socket, "ready")
                tell(socket, "text", text=TEXT)
    said_alone(speech)  # waits for a row
    for _ in range(200):
        if speech.stt.value.taken == speech.tts.value.taken == 0:
            return
        asyncio.run(asyncio.sleep(0.02))
    raise AssertionError("a row was not given back")


def test_whatever_strangers_send_the_server_lives_and_frees_its_rows(server):
    chance = random.Random(1)
    kinds = ["setup", "text", "audio", "flush", "end_of_stream", "ready", "x"]
    odd = [None, -1, 1e99, "x", [], {}, True, 2**70, "pcm", "pcm_0", "wav", "UklGRg=="]
    keys = ["text", "audio", "client_req_id", "input_format", "output_format", "voice"]
    keys += ["json_config", "flush_id", "close_ws_on_eos", "voice_id"]

    def line() -> str:
        if chance.random() < 0.1:
            return chance.choice(["", "[", "null", "[" * 500, '{"type": 1}', "\0"])
        fields = {chance.choice(keys): chance.choice(odd) for _ in range(3)}
        return json.dumps({"type": chance.choice(kinds), **fields})

    for _ in range(50):
        path = chance.choice(["/api/speech/tts", "/api/speech/asr"])
        with talk(server, path) as socket:
            try:
                tell(socket, "setup", input_format="pcm", close_ws_on_eos=False)
                for _ in range(4):
                    socket.send(line())
            except ConnectionClosed:
                pass
    said_alone(server.service.speech)


@pytest.mark.parametrize("wanted", ["pcm", "wav", "opus", "ulaw_8000", "pcm_16000"])
def test_formats_hold_as_much_sound_as_was_said(wanted):
    sending = Sending(wanted, 24000)
    pcm = noise(1.6, 2)
    frames = pcm.reshape(-1, 1920)
    data = b"".join([*(sending.push(f) for f in frames), sending.finish()])
    sizes = {"pcm": 153600, "wav": 153644, "ulaw_8000": 12800, "pcm_16000": 51200}
    assert len(data) == sizes.get(wanted, len(data)) > 0


def test_a_socket_without_a_request_is_closed(server, monkeypatch):
    monkeypatch.setattr(requests, "IDLE_S", 0.3)
    with talk(server, "/api/speech/asr") as socket:
        (message,) = told(socket, "error")
    assert "no request came for 0.3 s" in message["message"]


@pytest.mark.parametrize(
    "format", [f"pcm_{'9' * 5000}", "pcm_9999999", "pcm_0", "pcm_²", "pcm_-1"]
)
@pytest.mark.parametrize("path", ["asr", "tts"])
def test_a_rate_that_cannot_be_is_told(server, path, format):
    with talk(server, f"/api/speech/{path}") as socket:
        tell(socket, "setup", input_format=format, output_format=format)
        (message,) = told(socket, "error")
    assert message["code"] == 1008, message


@pytest.mark.parametrize("name", ["x" * 300, {"a": 1}, [1]])
def test_a_flush_has_a_short_name(server, name):
    with talk(server, "/api/speech/asr") as socket:
        tell(socket, "setup", input_format="pcm")
        told(socket, "ready")
        tell(socket, "flush", flush_id=name)
        message = told(socket, "error")[-1]
    assert "flush_id must be a number" in message["message"]


def test_names_of_flushes_are_forgotten_when_they_are_told():
    flushes = Flushes()
    numbers = [flushes.begun(name) for name in ("a", 7, None)]
    assert [flushes.told(number) for number in numbers] == ["a", 7, None]
    assert flushes._names == {}


def test_a_posted_text_whose_answer_nobody_takes_leaves_no_row_taken():
    speech = small(rows=1)

    class Posted:
        async def stream(self):
            yield json.dumps({"text": TEXT, "voice_id": VOICE}).encode()

        async def receive(self):
            await asyncio.Event().wait()

    async def main() -> None:
        service = SimpleNamespace(speech=speech)
        answer = await post_tts(cast(Any, service), cast(Any, Posted()))
        assert speech.said.open == 1
        del answer  # the client went before its first byte
        for _ in range(200):
            gc.collect()
            await asyncio.sleep(0.02)
            if not speech.said.open:
                return
        raise AssertionError("the row is not given back")

    asyncio.run(main())
