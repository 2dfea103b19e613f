"""Requests on a Gradium socket, message by message, without a server or a model."""

import asyncio
import base64
import json
import logging
from typing import Any, cast

import numpy as np
import pytest

from moshi_mlx.documents.words import Word
from moshi_mlx.engines.stt.events import EndOfTurn, Pauses, WordBegun
from moshi_mlx.errors import NotServed
from moshi_mlx.serve.protocols.gradium import asr, requests, tts
from moshi_mlx.serve.protocols.gradium.asr import serve_asr
from moshi_mlx.serve.protocols.gradium.requests import SpeechRequest
from moshi_mlx.serve.protocols.gradium.tts import serve_tts
from tests.serve.gradium.fakes import (
    FakeSocket,
    FakeSpeech,
    FakeVoice,
    fake_service,
    served,
    settled,
)


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_what_is_heard_comes_as_gradiums_messages():
    speech: Any = FakeSpeech

    async def act(socket: FakeSocket, service: Any) -> None:
        ears = service.speech.ears
        socket.tell("setup", input_format="pcm_24000")
        await settled()
        socket.tell("audio", audio=coded(bytes(2 * 3000)))
        socket.tell("flush", flush_id=7)
        await settled()
        assert ears.samples == 3000 and service.speech.waited == [2.0]
        ears.events.put_nowait(Pauses(0.24, (0.12346, 0.5)))
        ears.events.put_nowait(WordBegun("hello", 0.12345))
        ears.events.put_nowait(Word("hello", 0.12345, 0.45678))
        ears.events.put_nowait(EndOfTurn(1.0))  # no message of Gradium's
        socket.tell("end_of_stream")

    made = speech()
    socket = served(serve_asr, act, made)
    ready, flushed, step, text, end, last = socket.sent
    assert len(ready.pop("request_id")) == 32
    assert ready == {
        **{"type": "ready", "model_name": "ears", "sample_rate": 24000},
        **{"frame_size": 1920, "delay_in_frames": 6, "delay_in_tokens": 6},
        "text_stream_names": [],
    }
    assert flushed == {"type": "flushed", "flush_id": 7}
    assert step == {
        **{"type": "step", "step_idx": 3, "step_duration_s": 0.08},
        "total_duration_s": 0.24,
        "vad": [
            {"horizon_s": 0.5, "inactivity_prob": 0.1235},
            {"horizon_s": 1.0, "inactivity_prob": 0.5},
        ],
    }
    assert text == {"type": "text", "text": "hello", "start_s": 0.123, "stream_id": 0}
    assert end == {"type": "end_text", "stop_s": 0.457, "stream_id": 0}
    assert last == {"type": "end_of_stream"} and socket.code == 1000


def test_what_is_said_comes_as_gradiums_messages():
    async def act(socket: FakeSocket, service: Any) -> None:
        socket.tell("setup", output_format="pcm_24000", voice_id="v", voice="w")
        socket.tell("text", text="hello there")
        socket.tell("flush")
        socket.tell("end_of_stream")
        await settled()
        assert service.speech.asked == [("v", 10.0)]
        assert service.speech.voices[0].text == "hello there "

    socket = served(serve_tts, act)
    ready, sound, word, more, _, last = socket.sent
    assert (ready["type"], ready["model_name"]) == ("ready", "voice")
    assert (ready["sample_rate"], ready["frame_size"]) == (24000, 1920)
    assert type(ready["frame_size"]) is int
    assert (sound["start_s"], sound["stop_s"], more["stop_s"]) == (0, 0.08, 0.16)
    assert more["start_s"] == 0.08
    pcm = np.frombuffer(base64.b64decode(sound["audio"]), "<i2")
    assert len(pcm) == 1920 and abs(int(pcm[9]) - 8192) < 2
    assert word == {"type": "text", "text": "hello", "start_s": 0.0, "stop_s": 0.05}
    assert last == {"type": "end_of_stream"} and socket.code == 1000


def test_the_sound_that_is_left_at_the_end_has_the_end_s_time():
    async def act(socket: FakeSocket, _: Any) -> None:
        socket.tell("setup", output_format="opus")
        socket.tell("text", text="hello there")
        socket.tell("end_of_stream")

    *_, last, end = served(serve_tts, act).sent
    assert (last["type"], end["type"]) == ("audio", "end_of_stream")
    assert last["start_s"] == last["stop_s"] == 0.16


@pytest.mark.parametrize("voice", [{}, {"voice": "default"}, {"voice_id": ""}])
def test_without_a_voice_the_usual_one_speaks(voice):
    async def act(socket: FakeSocket, service: Any) -> None:
        socket.tell("setup", **voice)
        await settled()
        assert service.speech.asked == [(None, 10.0)]
        socket.tell("end_of_stream")

    assert served(serve_tts, act).sent[0]["sample_rate"] == 48000


@pytest.mark.parametrize("has_model", [True, False])
def test_an_unknown_voice_is_the_usual_one_but_a_missing_model_is_told(has_model):
    class Picky(FakeSpeech):
        tts = object() if has_model else None

        async def speak(self, name: str | None, wait_s: float) -> FakeVoice:
            if name or not has_model:
                raise NotServed("no such thing.")
            return await super().speak(name, wait_s)

    async def act(socket: FakeSocket, _: Any) -> None:
        socket.tell("setup", voice_id="Gradium's own", output_format="pcm")
        await settled()
        socket.tell("end_of_stream")

    socket = served(serve_tts, act, Picky())
    kinds = ["ready", "end_of_stream"] if has_model else ["error"]
    assert socket.kinds() == kinds and socket.code == (1000 if has_model else 1008)


@pytest.mark.parametrize(
    "serve, setup, message, words",
    [
        (serve_asr, {"input_format": "mp9"}, {}, "input_format 'mp9' is unknown"),
        (serve_asr, {"input_format": "mp9_1"}, {}, "input_format 'mp9_1' is unknown"),
        (serve_asr, {"json_config": "[1]"}, {}, "json_config must be a JSON object"),
        (serve_asr, {}, {"type": "text"}, "unknown type 'text'"),
        (serve_asr, {}, {"type": "a"}, "unknown type 'a'"),
        (serve_asr, {}, {"type": "audio"}, "needs its audio"),
        (serve_asr, {}, {"type": "flush", "flush_id": "x" * 201}, "up to 200 char"),
        (serve_tts, {"output_format": "mp9_1"}, {}, "output_format 'mp9_1' is unknown"),
        (serve_tts, {"output_format": "z_8000"}, {}, "output_format 'z_8000' is"),
        (serve_tts, {"json_config": 3}, {}, "json_config must be a JSON object"),
        (serve_tts, {"output_format": "pcm_1"}, {}, "sample rate"),
        (serve_tts, {}, {"type": "audio"}, "unknown type 'audio'"),
        (serve_tts, {}, {"type": "z"}, "unknown type 'z'"),
        (serve_tts, {}, {"type": "text", "text": 3}, "text must be a string"),
        (serve_tts, {}, {"type": "text"}, "needs a text"),
    ],
)
def test_what_is_wrong_ends_the_socket_with_its_code(serve, setup, message, words):
    async def act(socket: FakeSocket, _: Any) -> None:
        socket.tell("setup", **setup)
        if message:
            socket.tell(**{"kind": message["type"], **message})

    socket = served(serve, act)
    error = socket.sent[-1]
    assert words in error["message"] and error["code"] == socket.code == 1008


def test_a_fault_of_the_server_is_not_told_but_logged(caplog):
    class Broken(FakeSpeech):
        async def listen(self, wait_s: float):  # noqa: ARG002
            raise RuntimeError("secret")

    async def act(socket: FakeSocket, _: Any) -> None:
        socket.tell("setup")

    socket = served(serve_asr, act, Broken())
    words = "the server failed: see its log."
    assert socket.sent == [{"type": "error", "message": words, "code": 1011}]
    assert socket.code == 1011
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.exc_info and "secret" in record.getMessage()


def test_a_client_that_went_is_no_fault(caplog):
    class Gone(FakeSpeech):
        async def listen(self, wait_s: float):  # noqa: ARG002
            raise ConnectionResetError

    async def act(socket: FakeSocket, _: Any) -> None:
        socket.tell("setup")

    with caplog.at_level(logging.INFO, "moshi_mlx"):
        served(serve_asr, act, Gone())
    ours = [r for r in caplog.records if r.name.startswith("moshi_mlx.serve.protocols")]
    assert [(r.levelno, r.exc_info) for r in ours] == [(logging.INFO, False)]


def test_requests_have_their_own_messages_and_go_on_without_each_other():
    async def act(socket: FakeSocket, service: Any) -> None:
        for id in "ab":
            socket.tell("setup", client_req_id=id, close_ws_on_eos=False)
        await settled()
        socket.tell("text", text="hello", client_req_id="a")
        socket.tell("text", text="there", client_req_id="b")
        socket.tell("end_of_stream", client_req_id="b")
        await settled()
        assert [v.text for v in service.speech.voices[:2]] == ["hello ", "there "]
        assert socket.kinds("b")[-1] == "end_of_stream" and socket.kinds("a") == [
            "ready"
        ]
        socket.tell("text", text="late", client_req_id="b")  # is no error
        socket.tell("setup", client_req_id="b", close_ws_on_eos=False)  # once more
        await settled()
        assert socket.code is None and socket.kinds("b").count("ready") == 2
        socket.tell("setup", client_req_id="a")
        await settled()

    socket = served(serve_tts, act)
    assert "has not ended yet" in socket.sent[-1]["message"] and socket.code == 1008


def test_a_socket_carries_eight_requests():
    async def act(socket: FakeSocket, _: Any) -> None:
        for id in "abcdefgh":
            socket.tell("setup", client_req_id=id, close_ws_on_eos=False)
        await settled()
        assert socket.kinds("h") == ["ready"] and socket.code is None
        socket.tell("setup", client_req_id="i")

    socket = served(serve_tts, act)
    assert "8 requests at most" in socket.sent[-1]["message"] and socket.code == 1008


@pytest.mark.parametrize("after", [{}, *({"close_ws_on_eos": x} for x in (True, 0))])
def test_a_socket_closes_after_its_request_unless_it_is_told_not_to(after):
    async def act(socket: FakeSocket, _: Any) -> None:
        socket.tell("setup", client_req_id="a", close_ws_on_eos=False)
        socket.tell("end_of_stream", client_req_id="a")
        await settled()
        assert socket.code is None
        socket.tell("setup", client_req_id="b", **after)
        socket.tell("end_of_stream", client_req_id="b")

    assert served(serve_tts, act).code == 1000


@pytest.mark.parametrize(
    "act, code, kinds",
    [
        (lambda socket, _: socket.tell("text", text="a"), 1008, ["error"]),
        (
            lambda socket, _: socket.coming.put_nowait({"type": "websocket.receive"}),
            *(1008, ["error"]),
        ),
        (
            lambda socket, _: socket.coming.put_nowait(
                {"type": "websocket.disconnect"}
            ),
            *(1000, []),
        ),
        (lambda _, service: service.closing.set(), 1012, []),
    ],
)
def test_a_socket_without_a_request_ends_in_its_own_way(act, code, kinds):
    async def acting(socket: FakeSocket, service: Any) -> None:
        act(socket, service)

    socket = served(serve_asr, acting)
    assert socket.code == code and socket.kinds() == kinds


def test_a_binary_message_is_read_as_text_is():
    async def act(socket: FakeSocket, _: Any) -> None:
        data = json.dumps({"type": "setup", "input_format": "pcm"}).encode()
        socket.coming.put_nowait({"type": "websocket.receive", "bytes": data})
        await settled()
        socket.tell("end_of_stream")

    assert served(serve_asr, act).kinds() == ["ready", "end_of_stream"]


def test_silence_ends_a_request_and_a_text(monkeypatch):
    for module, name in ((asr, "_SILENT_S"), (tts, "_SILENT_S"), (requests, "IDLE_S")):
        monkeypatch.setattr(module, name, 0.05)

    async def act(socket: FakeSocket, _: Any) -> None:
        socket.tell("setup", output_format="pcm")

    socket = served(serve_asr, act)
    assert socket.sent[-1]["message"] == "nothing came for 0.05 s." and (
        socket.code == 1008
    )
    assert served(serve_tts, act).kinds() == ["ready", "end_of_stream"]


def test_the_limits_are_those_that_clients_know():
    assert (requests.IDLE_S, requests.MOST_AT_ONCE, requests.MOST_WAITING) == (
        60,
        8,
        64,
    )
    assert (asr._SILENT_S, tts._SILENT_S, asr.MOST_NAME) == (120, 30, 200)


def test_few_messages_of_a_request_wait_and_late_ones_are_dropped():
    async def main() -> FakeSocket:
        service, socket, go_on = fake_service(), FakeSocket(), asyncio.Event()

        async def handle(request: SpeechRequest) -> None:
            await go_on.wait()
            if request.id == "a":
                assert request.told.qsize() == requests.MOST_WAITING == 64
            else:
                await request.told.get()

        carrier = requests.RequestSocket(service, cast(Any, socket), handle)
        serving = asyncio.ensure_future(carrier.serve())
        for id in "ab":
            socket.tell("setup", client_req_id=id, close_ws_on_eos=False)
        for _ in range(70):
            socket.tell("text", text="a", client_req_id="a")
        for _ in range(4):
            await settled()
        assert socket.coming.qsize() == 5  # one more waits for room
        go_on.set()
        for _ in range(4):
            await settled()
        assert socket.coming.empty() and socket.sent == [
            {"type": "end_of_stream", "client_req_id": "a"}
        ]
        service.closing.set()
        await serving
        return socket

    assert asyncio.run(main()).code == 1012


def test_a_client_that_reads_nothing_is_closed():
    class Stuck(FakeSocket):
        async def send_text(self, text: str) -> None:  # noqa: ARG002
            await asyncio.sleep(60)

    async def main() -> Stuck:
        socket = Stuck()
        socket.tell("setup")
        await serve_asr(fake_service(read_s=0.02), cast(Any, socket))
        return socket

    assert asyncio.run(main()).code == 1008
