"""Speech to text as Unmute and Kyutai's scripts use it, over a real socket."""

import json
import urllib.error
import urllib.request

import numpy as np
import pytest
import sphn

from moshi_mlx.audio.encode import encoded
from tests.listening import HEADS, noise
from tests.serve.moshi_server.conftest import PATIENCE_S, peer
from tests.serve.small import small

PATH = "/api/asr-streaming"
SILENCE = np.zeros(24000, np.float32)


def post(server, path: str, body: bytes) -> bytes:
    asked = urllib.request.Request(server.url(path), body)
    with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
        return answer.read()


def words(told: list[dict]) -> list[dict]:
    return [m for m in told if m["type"] in ("Word", "EndWord")]


def test_a_burst_is_answered_with_a_step_a_frame_and_the_posted_files_words(serve):
    server = serve(speech=small())
    pcm = noise(1.6)
    with peer(server, PATH) as client:
        assert client.receive() == {"type": "Ready"}
        client.socket.send("text frames are nothing here")
        client.say(pcm, 700)
        client.send("Marker", id=7)
        client.say(np.tile(SILENCE, 2))
        told = client.until("Marker")
    steps = [m for m in told if m["type"] == "Step"]
    indices = [step["step_idx"] for step in steps]
    assert indices == list(range(indices[0], indices[0] + len(steps)))
    assert len(steps) >= len(pcm) // 1920
    assert all(len(s["prs"]) == HEADS and s["buffered_pcm"] >= 0 for s in steps)
    assert told[-1] == {"type": "Marker", "id": 7}
    heard = words(told)
    assert heard and {m["type"] for m in heard} == {"Word", "EndWord"}
    listed = json.loads(post(server, PATH, encoded(pcm, "wav")))
    assert heard[: len(listed) - 1] == listed[: len(heard)][: len(listed) - 1]


def test_init_begins_another_sound(serve):
    server, pcm = serve(speech=small()), noise(0.8)
    with peer(server, PATH) as client:
        heard = []
        for _ in range(2):
            assert client.until("Ready")[-1] == {"type": "Ready"}
            client.say(pcm)
            client.send("Marker", id=-3)
            client.say(SILENCE)
            heard.append(words(client.until("Marker")))
            client.send("Init")
        assert heard[0] == heard[1] != []


@pytest.mark.parametrize("as_array", [True, False])
def test_opus_comes_as_an_array_or_as_bytes(serve, as_array):
    writer = sphn.OpusStreamWriter(24000)
    pcm = noise(1.0)
    with peer(serve(speech=small()), PATH) as client:
        for start in range(0, 24000 - 1920, 1920):
            data = bytes(writer.append_pcm(pcm[start : start + 1920]))
            client.send("OggOpus", data=list(data) if as_array else data)
        client.send("Marker", id=1)
        client.say(SILENCE)
        assert any(m["type"] == "Word" for m in client.until("Marker"))


def test_a_marker_waits_for_its_own_sound_only(serve):
    server = serve(speech=small())
    with peer(server, PATH) as one, peer(server, PATH) as other:
        assert one.receive() == other.receive() == {"type": "Ready"}
        one.say(noise(0.4))
        one.send("Marker", id=1)
        other.say(noise(2.0))
        other.send("Marker", id=2)
        other.say(SILENCE)
        other.until("Marker")
        with pytest.raises(TimeoutError):
            while True:
                told = one.socket.recv(0.3)
                assert b"Marker" not in bytes(told)  # type: ignore[arg-type]
        one.say(SILENCE)
        assert one.until("Marker")[-1]["id"] == 1


def test_a_full_server_says_so_and_a_place_comes_back_with_work_still_waiting(
    serve, eventually
):
    speech = small(rows=1)
    server = serve(speech=speech)
    with peer(server, PATH) as first:
        first.receive()
        first.say(noise(20.0))
        with peer(server, PATH) as second:
            told = second.receive()
            assert told == {"type": "Error", "message": "no free channels"}
            assert second.rest() == []
    eventually(lambda: speech.heard.open == 0)
    with peer(server, PATH) as third:
        assert third.receive() == {"type": "Ready"}


@pytest.mark.parametrize(
    "wrong",
    [
        b"\xc1",
        b"\x81\xa4type\xa3Lie",
        b"\x80",
        b"\x82\xa4type\xa5Audio\xa3pcm\x91\xcb\x7f\xf8\0\0\0\0\0\0",
        b"\x82\xa4type\xa6Marker\xa2id\xcb?\xf8\0\0\0\0\0\0",
    ],
)
def test_what_is_no_message_ends_that_connection_alone(serve, wrong):
    server = serve(speech=small())
    with peer(server, PATH) as good, peer(server, PATH) as bad:
        assert good.receive() == bad.receive() == {"type": "Ready"}
        bad.socket.send(wrong)
        assert len(bad.rest()) == 1  # an Error
        good.say(noise(0.4))
        assert good.receive()["type"] == "Step"


def test_a_posted_file_that_is_none_is_refused_in_a_sentence(serve):
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(serve(speech=small()), PATH, b"RIFF nonsense")
    body = caught.value.read().decode()
    assert caught.value.code == 400 and "the file" in body and "/tmp" not in body
