"""What strangers may send to moshi-server's routes: more than memory and disk hold."""

import json
import socket as sockets

import numpy as np
import pytest

from moshi_mlx.engines.tts import row
from moshi_mlx.serve import uploads, voice
from moshi_mlx.serve.uploads import MOST_BODY
from tests.serve.moshi_server.conftest import peer
from tests.serve.small import VOICE, small


def posted(server, path: str, chunk: bytes, most: int) -> tuple[int, int]:
    """Send a body in chunks, without an end, until the server answers.

    Returns: bytes sent, and the status.
    """
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    framed = b"%x\r\n%b\r\n" % (len(chunk), chunk)
    with sockets.create_connection(("localhost", server.port), 20) as client:
        client.sendall(head.encode() + b"\r\n")
        client.setblocking(False)
        sent = 0
        while sent < most:
            try:
                answer = client.recv(4096)
                return sent, int(answer.split()[1])
            except BlockingIOError:
                pass
            client.setblocking(True)
            try:
                client.sendall(framed)
            except (BrokenPipeError, ConnectionResetError):
                return sent, int(client.recv(4096).split()[1])
            client.setblocking(False)
            sent += len(chunk)
    return sent, 0


@pytest.mark.parametrize("path", ["/api/tts_streaming", "/api/post/speech/tts"])
def test_a_text_without_an_end_is_refused_while_it_comes(serve, path: str):
    server = serve(speech=small())
    sent, status = posted(server, path, bytes(1 << 16), 64 << 20)
    assert status == 413 and MOST_BODY <= sent < 8 << 20


def test_a_file_is_refused_before_it_fills_the_disk(serve, monkeypatch):
    server = serve(speech=small())
    monkeypatch.setattr(uploads, "SPARE_DISK", 1 << 60)
    sent, status = posted(server, "/api/asr-streaming", bytes(1 << 16), 64 << 20)
    assert status == 507 and sent < 8 << 20


def test_text_that_comes_faster_than_it_is_said_ends_the_speech(serve, monkeypatch):
    monkeypatch.setattr(row, "MOST_UNSAID", 20_000)
    server = serve(speech=small())
    with peer(server, f"/api/tts_streaming?voice={VOICE}&format=PcmMessagePack") as one:
        assert one.receive() == {"type": "Ready"}
        one.send("Text", text="a " * 40_000)
        told = [one.receive()]
        while told[-1]["type"] != "Error":
            told.append(one.receive())
    assert "tokens of text wait to be said" in told[-1]["message"]


def test_text_that_comes_faster_than_it_is_read_ends_the_speech(serve, monkeypatch):
    monkeypatch.setattr(voice, "MOST_WAITING", 50_000)
    server = serve(speech=small())
    with peer(server, f"/api/tts_streaming?voice={VOICE}&format=PcmMessagePack") as one:
        assert one.receive() == {"type": "Ready"}
        one.send("Text", text="hello " * 20_000)
        told = [one.receive()]
        while told[-1]["type"] != "Error":
            told.append(one.receive())
    assert "characters of text wait to be read" in told[-1]["message"]


def test_a_long_text_that_is_not_too_long_is_said(serve):
    speech = small()
    server = serve(speech=speech)
    with peer(server, f"/api/tts_streaming?voice={VOICE}&format=PcmMessagePack") as one:
        assert one.receive() == {"type": "Ready"}
        one.send("Text", text="hello " * 5000)
        assert np.isfinite(one.receive()["pcm"]).all()


def test_a_text_of_another_kind_is_refused_in_a_sentence(serve):
    server = serve(speech=small())
    body = json.dumps(["no", "object"]).encode()
    head = "POST /api/tts_streaming HTTP/1.1\r\nHost: localhost\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with sockets.create_connection(("localhost", server.port), 20) as client:
        client.sendall(head.encode() + body)
        assert client.recv(4096).split()[1] == b"422"
