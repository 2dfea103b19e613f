"""A client that hangs up is noticed, though nobody reads what it sent before."""

import json
import socket
import threading
import time
from base64 import b64encode

import pytest
from websockets.sync.client import connect

from moshi_mlx.engines.owner import model_thread
from moshi_mlx.serve.gate.hangups import hung_up
from tests.serve.client import PATIENCE_S
from tests.serve.hangups import Caller
from tests.serve.small import VOICE, small

APPEND = "input_audio_buffer.append"


@pytest.mark.parametrize("rudely", [False, True])
def test_a_closed_socket_is_found_behind_unread_bytes(rudely):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    with ours:
        theirs.sendall(b"x" * 10_000)
        assert hung_up({ours.fileno()}) == set()
        if rudely:
            ours.sendall(b"never read")
            time.sleep(0.01)
        theirs.close()
        assert until(lambda: hung_up({ours.fileno()}) == {ours.fileno()})
    assert hung_up(set()) == set()


def until(holds) -> bool:
    late = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > late:
            return False
        time.sleep(0.01)
    return True


def sound(seconds: float) -> str:
    return b64encode(bytes(2 * int(24000 * seconds))).decode()


@pytest.fixture
def busy():
    """The model works on something else until the test lets it go."""
    let_go = threading.Event()
    yield lambda: model_thread().call(lambda: let_go.wait(PATIENCE_S)), let_go
    let_go.set()


def test_a_socket_with_a_backlog_is_closed_while_the_model_is_busy(serve, busy):
    server = serve(speech=small())
    block, let_go = busy
    client = Caller(server.port)
    client.upgrade("/v1/realtime?intent=transcription")
    client.until(b"session.created")
    client.say(type=APPEND, audio=sound(0.1))
    assert until(lambda: server.service.speech.heard.open)
    blocked = block()
    for _ in range(8):  # more than may wait for the model, so it is not read
        client.say(type=APPEND, audio=sound(10))
    client.hang_up(rudely=False)
    assert until(lambda: not server.service.gate.count)
    assert not blocked.done()
    let_go.set()
    batch = server.service.speech.stt.value
    assert until(lambda: not batch.taken)


def test_a_request_that_waits_for_a_place_ends_with_its_client(serve):
    server = serve(speech=small(rows=1))
    url = f"ws://localhost:{server.port}/api/tts_streaming?format=PcmMessagePack"
    body = json.dumps({"text": "hello there", "voice": VOICE}).encode()
    head = "POST /api/tts_streaming HTTP/1.1\r\nHost: localhost\r\n"
    with connect(url) as first:
        first.recv()  # it has the only place
        batch = server.service.speech.tts.value
        raw = socket.create_connection(("localhost", server.port))
        raw.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert until(lambda: server.service.gate.count == 2)
        time.sleep(0.1)
        raw.close()
        assert until(lambda: server.service.gate.count == 1)
        assert batch.taken == 1
    assert until(lambda: not batch.taken)
