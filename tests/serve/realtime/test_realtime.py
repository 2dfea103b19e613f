"""OpenAI's own client in realtime sessions, and what it does not send."""

import asyncio
import base64
import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from openai import OpenAI
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import moshi_mlx
from moshi_mlx.engines.duplex.batch import Batch
from moshi_mlx.engines.owner import model_thread
from moshi_mlx.engines.stt import Word
from moshi_mlx.serve.lazy import Lazy
from moshi_mlx.serve.protocols.realtime import talking
from moshi_mlx.serve.speech import SpeechService
from tests.family import translating
from tests.listening import noise
from tests.serve.client import PATIENCE_S
from tests.serve.small import small

# The openai package calls websockets in a way that websockets 17.1 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context")
PCM = (noise(2.0, 3) * 0.9).clip(-1, 1)


def coded(pcm: np.ndarray) -> str:
    return base64.b64encode((pcm * 32767).astype("<i2").tobytes()).decode()


@contextmanager
def connected(connecting: Any) -> Iterator[tuple[Any, Iterator[Any]]]:
    """A connection and its events; it ends after a while, whatever comes."""
    with connecting as socket:
        impatient = threading.Timer(50, socket.close)
        impatient.start()
        try:
            yield socket, iter(socket)
        finally:
            impatient.cancel()


def client_of(server) -> Any:
    return OpenAI(base_url=server.url("/v1"), api_key="none", max_retries=0)


def until(events: Iterator[Any], kind: str, most: int = 2000) -> list[Any]:
    found: list[Any] = []
    for event in events:
        found.append(event)
        if event.type == kind:
            return found
        assert event.type != "error", event
        assert len(found) < most, [e.type for e in found[-10:]]
    raise AssertionError([e.type for e in found])


def kinds(events: list[Any]) -> list[str]:
    return [event.type for event in events]


def append(socket, pcm: np.ndarray, size: int = 2400) -> None:
    for at in range(0, len(pcm), size):
        socket.input_audio_buffer.append(audio=coded(pcm[at : at + size]))


def words_of(speech: SpeechService) -> str:
    async def hear() -> str:
        async with await speech.listen(20) as ears:
            whole = (PCM * 32767).astype(np.int16)
            await ears.put((whole / 32768).astype(np.float32))
            await ears.end()
            return " ".join([e.text async for e in ears if isinstance(e, Word)])

    return asyncio.run(hear())


def test_a_committed_sound_is_transcribed_piece_by_piece_and_whole(serve):
    server = serve(speech=small())
    query = {"intent": "transcription"}
    connecting = client_of(server).realtime.connect(model="any", extra_query=query)
    with connected(connecting) as (socket, events):
        created = next(events)
        assert created.type == "session.created"
        assert created.session.type == "transcription"
        socket.session.update(
            session={
                "type": "transcription",
                "audio": {"input": {"turn_detection": None}},
            }
        )
        updated = until(events, "session.updated")[-1]
        assert updated.session.audio.input.turn_detection is None
        append(socket, PCM)
        socket.input_audio_buffer.commit()
        done = "conversation.item.input_audio_transcription.completed"
        heard = until(events, done)
        deltas = [e.delta for e in heard if e.type.endswith("transcription.delta")]
        told = heard[-1].transcript
        assert "".join(deltas) == told and len(told.split()) > 5
        # What the random model writes into silence is no part of what was committed.
        assert words_of(server.service.speech).startswith(told)
        assert heard[-1].usage.seconds == 2.0
        order = [k for k in kinds(heard) if not k.endswith("delta")]
        item = "conversation.item"
        assert order == [
            "input_audio_buffer.committed",
            f"{item}.added",
            f"{item}.done",
            done,
        ]
        assert len({e.item_id for e in heard if hasattr(e, "item_id")}) == 1
        socket.input_audio_buffer.commit()
        with pytest.raises(AssertionError, match="input_audio_buffer_commit_empty"):
            until(events, done)
        append(socket, PCM[:12000])
        socket.input_audio_buffer.clear()
        assert until(events, "input_audio_buffer.cleared")


@pytest.fixture
def hasty(monkeypatch):
    """A client that speaks faster than real time loses no silence."""
    monkeypatch.setattr(talking, "CALM_MS", 10_000)


def test_a_talk_with_moshi_comes_in_responses(serve, question, hasty):
    """Moshi answers the demo's question; the user says nothing more."""
    server = serve()
    connecting = client_of(server).realtime.connect(model="moshi")
    with connected(connecting) as (socket, events):
        assert next(events).session.type == "realtime"
        voice = {"type": "realtime", "audio": {"output": {"voice": "marin"}}}
        socket.session.update(session=voice)  # type: ignore[arg-type]
        until(events, "session.updated")
        silence = np.zeros(1920, np.float32)
        for frame in [*question, *[silence] * 25]:
            append(socket, frame)
        heard = until(events, "response.done")
    order = list(dict.fromkeys(k for k in kinds(heard) if k.startswith("response.")))
    assert order[:3] == [
        "response.created",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert order[-5:] == [
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
    ]
    deltas = [e.delta for e in heard if e.type == "response.output_audio.delta"]
    pcm = np.frombuffer(b"".join(base64.b64decode(d) for d in deltas), "<i2")
    assert np.abs(pcm).max() > 1000
    text = "".join(e.delta for e in heard if e.type.endswith("transcript.delta"))
    done = heard[-1].response
    assert done.output[0].content[0].transcript == text != ""
    assert done.status == "completed"
    assert done.usage.output_token_details.audio_tokens == len(deltas)
    assert {"input_audio_buffer.speech_started"} <= set(kinds(heard))


def test_whoever_speaks_while_moshi_does_cuts_the_response(serve, question, hasty):
    server = serve()
    connecting = client_of(server).realtime.connect(model="moshi")
    with connected(connecting) as (socket, events):
        next(events)
        for frame in question:
            append(socket, frame)
        until(events, "response.output_audio.delta")
        append(socket, PCM[: 1920 * 8])
        done = until(events, "response.done")[-1].response
        if done.status == "completed":  # it had finished before
            return
        assert done.status == "cancelled"
        assert done.status_details.reason == "turn_detected"


def test_responses_are_asked_for_and_cancelled(serve):
    server = serve()
    connecting = client_of(server).realtime.connect(model="moshi")
    with connected(connecting) as (socket, events):
        next(events)
        socket.response.create()
        until(events, "response.content_part.added")
        socket.response.create()
        error = next(events)
        assert error.error.code == "conversation_already_has_active_response"
        socket.response.cancel()
        done = until(events, "response.done")[-1].response
        assert (done.status, done.status_details.reason) == (
            "cancelled",
            "client_cancelled",
        )
        socket.response.cancel(event_id="mine")
        error = next(events).error
        assert (error.code, error.event_id) == ("response_cancel_not_active", "mine")


def test_items_are_kept_in_their_order(serve):
    server = serve()
    connecting = client_of(server).realtime.connect(model="moshi")
    with connected(connecting) as (socket, events):
        next(events)
        text: Any = {"type": "message", "role": "user", "content": []}
        previous = None
        for id in ("one", "two", "three"):
            socket.conversation.item.create(item={**text, "id": id})
            done = until(events, "conversation.item.done")[-1]
            assert (done.item.id, done.previous_item_id) == (id, previous)
            previous = id
        socket.conversation.item.delete(item_id="two")
        assert next(events).item_id == "two"
        socket.response.create()
        added = until(events, "conversation.item.added")[-1]
        assert added.previous_item_id == "three"
        socket.response.cancel()
        until(events, "response.done")
        for id, role in ((added.item.id, "assistant"), ("three", "user")):
            socket.conversation.item.retrieve(item_id=id)
            assert next(events).item.role == role
        socket.conversation.item.retrieve(item_id="two")
        assert next(events).error.code == "item_retrieve_invalid_item_id"


@pytest.mark.slow  # the demo listens to ten seconds of silence at the end
def test_a_translation_is_said_and_written_while_it_is_spoken(serve):
    demo = Lazy("demo", lambda: Batch(moshi_mlx.load("demo"), 1))
    server = serve(speech=SpeechService(model_thread(), translate=demo))
    client = client_of(server).realtime.translations
    with connected(client.connect(model="hibiki")) as (socket, events):
        created = next(events)
        assert created.session.audio.output.language == "en"
        for _ in range(5):
            socket.session.input_audio_buffer.append(audio=coded(PCM[:4800]))
        socket.session.close()
        heard = until(events, "session.closed")
    audio = [e for e in heard if e.type == "session.output_audio.delta"]
    assert len(audio) >= 12
    assert (audio[0].format, audio[0].sample_rate) == ("pcm16", 24000)


def test_live_translations_share_a_batch_and_are_refused_beyond_it(serve, tmp_path):
    moshi = moshi_mlx.load(str(translating(tmp_path / "hibiki")))
    hibiki = Lazy("hibiki", lambda: Batch(moshi, 2))
    server = serve(batch=None, speech=SpeechService(model_thread(), translate=hibiki))
    append = {"type": "session.input_audio_buffer.append", "audio": coded(PCM)}

    def heard(socket) -> bytes:
        """What comes for the first second."""
        said = b""
        while len(said) < 2 * 24000:
            event = json.loads(socket.recv(PATIENCE_S))
            assert event["type"] != "error", event
            if event["type"] == "session.output_audio.delta":
                said += base64.b64decode(event["delta"])
        return said

    with talk(server, "/translations") as one, talk(server, "/translations") as two:
        for socket in (one, two):
            assert json.loads(socket.recv(PATIENCE_S))["type"] == "session.created"
        with talk(server, "/translations") as three:
            error = json.loads(three.recv(PATIENCE_S))["error"]
            assert "places to translate" in error["message"]
        for socket in (one, two):
            socket.send(json.dumps(append))
        assert len(heard(one)) == len(heard(two))
    batch = hibiki.value
    assert batch is not None
    late = time.monotonic() + PATIENCE_S
    while batch.free < 2 and time.monotonic() < late:
        time.sleep(0.01)
    assert batch.free == 2


def talk(server, query: str = "?intent=transcription", **options):
    return connect(f"ws://localhost:{server.port}/v1/realtime{query}", **options)


def test_a_browsers_subprotocol_is_answered_and_its_key_handed_out(serve):
    server = serve(speech=small())
    offered = ["realtime", "openai-insecure-api-key.none"]
    with talk(server, subprotocols=offered) as socket:
        assert socket.subprotocol == "realtime"
    secret = client_of(server).realtime.client_secrets.create()
    assert secret.value == "none"


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"audio": {"input": {"format": {"type": "audio/mp3"}}}}, "format"),
        ({"audio": {"input": {"turn_detection": {"type": "x"}}}}, "turn_detection"),
        ({"audio": []}, "session.audio"),
        ({"type": "chess"}, "session.type"),
        ([], "session"),
    ],
)
def test_a_wrong_setting_is_said_and_changes_nothing(serve, session, param):
    with talk(serve(speech=small())) as socket:
        before = json.loads(socket.recv())["session"]
        update = {"type": "session.update", "session": session, "event_id": "e"}
        socket.send(json.dumps(update))
        error = json.loads(socket.recv())["error"]
        assert param in error["param"] and error["event_id"] == "e"
        socket.send(json.dumps({"type": "session.update", "session": {}}))
        assert json.loads(socket.recv())["session"] == before


def test_whatever_strangers_send_the_server_lives_and_frees_its_rows(serve):
    server = serve(speech=small())
    chance = random.Random(1)
    names = ["session.update", "input_audio_buffer.append", "response.create", "x"]
    names += ["input_audio_buffer.commit", "input_audio_buffer.clear"]
    names += ["conversation.item.create", "conversation.item.delete", "session.close"]
    odd = [None, -1, 1e99, "x", [], {}, True, 2**70, "AAAA", {"type": "realtime"}]
    keys = ["session", "audio", "item", "item_id", "event_id", "response"]

    def line() -> str:
        if chance.random() < 0.1:
            return chance.choice(["", "[", "null", "[" * 500, '{"type": 1}', "\0"])
        fields = {chance.choice(keys): chance.choice(odd) for _ in range(3)}
        return json.dumps({"type": chance.choice(names), **fields})

    for _ in range(25):
        query = chance.choice(["", "?intent=transcription", "/translations"])
        with talk(server, query) as socket:
            try:
                for _ in range(8):
                    socket.send(line())
            except ConnectionClosed:
                pass
    assert words_of(server.service.speech)
    assert server.service.lobby.taken in (0, 1)
