"""What strangers may do to a server, and what it must not cost anybody else."""

import asyncio
import contextlib
import gc
import json
import os
import random
import socket
import threading
import urllib.error
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

import moshi_mlx
from moshi_mlx.engines.owner import model_thread
from moshi_mlx.engines.thread import ModelThread
from moshi_mlx.serve.gate.limits import Limits
from moshi_mlx.serve.protocols.wyoming.server import WyomingPort
from moshi_mlx.serve.service import load_batch
from tests.serve.client import AUDIO, ERROR, HANDSHAKE, PATIENCE_S, arrived, joined
from tests.serve.conftest import HASTY
from tests.serve.ogg import beginning, page
from tests.serve.small import small
from tests.serve.wyoming.test_models import free_port

MESSAGES = 10_000


def random_message(rng: random.Random) -> bytes | str:
    """Rubbish of every sort, some of it nearly right."""
    sort = rng.randrange(7)
    if sort == 0:
        return rng.randbytes(rng.randrange(200))
    if sort == 1:
        return bytes([rng.randrange(256)]) + rng.randbytes(rng.randrange(50))
    if sort == 2:
        return b"\x01" + beginning()[: rng.randrange(120)]
    if sort == 3:
        packets = [rng.randbytes(rng.randrange(40)) for _ in range(rng.randrange(9))]
        return b"\x01" + beginning() + page(packets, 2, flags=rng.randrange(8))
    if sort == 4:
        return bytes([3, rng.randrange(6)])
    if sort == 5:
        return "".join(chr(rng.randrange(32, 500)) for _ in range(rng.randrange(40)))
    return b"\x01" + np.array([rng.gauss(0, 1e9)] * rng.randrange(60), "<f4").tobytes()


async def assert_serves(server, question) -> None:
    """A well-behaved client is still answered."""
    async with joined(server.chat("format=pcm&seed=1&queue=1")) as client:
        assert len(await client.converse(question[:4])) == 4


def test_ten_thousand_messages_of_rubbish_leave_the_server_serving(serve, question):
    server = serve(places=2)
    rng = random.Random(7)

    async def pester() -> int:
        """One connection's worth; returns how many messages it was good for."""
        sent = 0
        query = rng.choice(("queue=1", "queue=1&format=pcm", "queue=1", ""))
        with contextlib.suppress(ConnectionClosed):
            async with connect(server.chat(query), compression=None) as ws:
                await ws.recv()
                for _ in range(rng.randrange(1, 60)):
                    await ws.send(random_message(rng))
                    sent += 1
        return sent

    async def run() -> int:
        total = 0
        while total < MESSAGES:
            total += sum(await asyncio.gather(*(pester() for _ in range(4))))
        await assert_serves(server, question)
        return total

    assert asyncio.run(run()) >= MESSAGES
    counts = server.service.metrics.connections.counts
    assert counts["misused"] > 20
    assert counts["failed"] == 0


@pytest.mark.parametrize(
    "query, message, words",
    [
        ("format=pcm", b"", "empty"),
        ("format=pcm", b"\x01\x00", "float32"),
        ("", b"\x01RIFF", "Ogg-Opus"),
        ("", b"\x03\x09", "control"),
    ],
)
def test_misuse_is_answered_and_ends_the_connection(serve, query, message, words):
    async def run():
        async with joined(serve().chat(query)) as client:
            await client.socket.send(message)
            return await client.until_closed(), client

    code, client = asyncio.run(run())
    assert code == 1008
    assert client.kinds[-1] == ERROR and words in client.errors[0]


def test_a_message_that_is_too_long_ends_the_connection(serve):
    async def run():
        async with joined(serve().chat()) as client:
            await client.socket.send(bytes(2 << 20))
            return await client.until_closed()

    assert asyncio.run(run()) == 1009


@pytest.mark.parametrize("what", ["sound", "data"])
def test_a_flood_ends_the_connection_that_makes_it(serve, question, what):
    server = serve(limits=Limits())
    message = b"\x01" + bytes(4 * 24000) if what == "sound" else b"\x02" + bytes(60000)

    async def run():
        async with joined(server.chat()) as client:
            with contextlib.suppress(ConnectionClosed):
                for _ in range(200):
                    await client.socket.send(message)
            code = await client.until_closed()
            await assert_serves(server, question)
            return code, client.errors

    code, errors = asyncio.run(run())
    assert code == 1008
    assert f"too much {what}" in errors[0]


def test_who_says_nothing_loses_the_place(serve):
    server = serve(limits=Limits(idle_s=0.3))

    async def run():
        async with joined(server.chat()) as client:
            return await client.until_closed(), client.errors

    code, errors = asyncio.run(run())
    assert code == 1000 and "nothing came" in errors[0]
    assert server.service.metrics.connections.counts["idle"] == 1


def test_conversations_may_be_given_an_end(serve, question):
    server = serve(limits=Limits(session_s=1))

    async def run():
        async with joined(server.chat()) as client:
            return await client.until_closed(), client.errors

    code, errors = asyncio.run(run())
    assert code == 1000 and "end after 1 s" in errors[0]


def upgraded(port: int) -> socket.socket:
    """A WebSocket by hand, that will read nothing and say nothing."""
    raw = socket.create_connection(("localhost", port))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    raw.sendall(
        b"GET /api/chat?format=pcm&queue=1 HTTP/1.1\r\nHost: localhost\r\n"
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    return raw


def test_a_connection_that_asks_for_nothing_is_closed(serve):
    server = serve(limits=replace(HASTY, opening_s=0.2))
    with socket.create_connection(("localhost", server.port)) as idle:
        idle.settimeout(PATIENCE_S)
        assert idle.recv(100).startswith(b"HTTP/1.1 408 ")


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(
    not os.path.exists("/proc/self/fd"), reason="not on systems without /proc"
)
def test_fifty_visits_leave_nothing_behind(serve, question):
    """Neither file handles nor memory nor rows of the model, however they end."""
    server = serve()

    async def visit(number: int) -> None:
        url = server.chat(f"queue=1&seed={number}&format=pcm")
        if number % 3 == 0:  # vanishes without a word
            socket_ = upgraded(server.port)
            await asyncio.sleep(0.02)
            socket_.close()
        elif number % 3 == 1:  # breaks off in mid-speech
            async with joined(url) as client:
                await client.say(question[0])
                client.socket.transport.abort()
        else:
            async with joined(url) as client:
                await client.converse(question[:2])

    async def run() -> tuple[tuple[int, int], tuple[int, int]]:
        for number in range(10):
            await visit(number)
        gc.collect()
        before = len(os.listdir("/proc/self/fd")), resident()
        for number in range(50):
            await visit(number)
        await assert_serves(server, question)
        await asyncio.sleep(0.2)
        gc.collect()
        return before, (len(os.listdir("/proc/self/fd")), resident())

    before, after = asyncio.run(run())
    assert after[0] <= before[0] + 1
    assert after[1] - before[1] < 15e6, "memory grows with every visit"
    assert (server.service.lobby.taken, server.service.lobby.waiting) == (0, 0)


def test_frames_that_come_too_fast_are_left_out_and_counted(serve, question):
    """The waiting sound is bounded; dropped frames show in the figures."""
    server = serve(limits=replace(HASTY, waiting_ms=400))
    sent = threading.Event()

    async def run():
        async with joined(server.chat("format=pcm&stats=1&seed=1")) as client:
            model_thread().call(lambda: sent.wait(PATIENCE_S))
            for frame in question[:60]:
                await client.say(frame)
            await (await client.socket.ping())  # the server has read them all
            sent.set()
            while not any("stats" in m for m in client.metadata) or (
                client.metadata[-1].get("stats", {}).get("waiting_ms", 1) > 0
            ):
                await client.receive()
            return client.metadata[-1]["stats"], client.kinds.count(AUDIO)

    stats, answered = asyncio.run(run())
    dropped = stats["dropped_silent"] + stats["dropped_spoken"]
    assert dropped > 50  # 400 ms are five frames
    assert answered + dropped <= 60


def test_a_model_that_fails_is_said(serve, question, monkeypatch):
    """One conversation's failure ends that conversation only."""
    server = serve()
    monkeypatch.setattr(
        "moshi_mlx.engines.duplex.stepper.Stepper.step", lambda *_: 1 / 0
    )

    async def run():
        async with joined(server.chat()) as client:
            await client.say(question[0])
            return await client.until_closed(), client.errors

    code, errors = asyncio.run(run())
    assert code == 1011 and "failed" in errors[0]
    monkeypatch.undo()
    asyncio.run(assert_serves(server, question))


def test_a_model_that_has_ended_is_said(serve, question):
    thread = ModelThread()
    batch = load_batch(thread, lambda: moshi_mlx.load("demo"), 1)
    server = serve(thread=thread, batch=batch)

    async def run():
        async with joined(server.chat()) as client:
            await client.converse(question[:1])
            await asyncio.get_running_loop().run_in_executor(None, thread.close)
            return await client.until_closed(), client.errors

    code, errors = asyncio.run(run())
    assert code == 1011 and "the model has stopped" in errors[0]
    with pytest.raises(urllib.error.HTTPError, match="503"):
        urllib.request.urlopen(server.url("/health"), timeout=PATIENCE_S)


def test_a_server_ends_though_its_model_works_on(serve, question):
    """Sockets, requests and files wait for a model that is busy with something else."""
    speech, wyoming = small(), free_port()
    server = serve(speech=speech, beside=lambda: WyomingPort(port=wyoming).open(speech))
    let_go = threading.Event()

    async def talk() -> None:
        async with joined(server.chat()) as client:
            await client.converse(question[:1])
            blocked = model_thread().call(lambda: let_go.wait(PATIENCE_S))
            await client.say(question[1])
            address = ("localhost", server.port)
            body = b'{"input": "hello there", "voice": "alloy"}'
            head = f"Host: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            with socket.create_connection(address) as raw:
                raw.sendall(f"POST /v1/audio/speech HTTP/1.1\r\n{head}".encode() + body)
                with socket.create_connection(("127.0.0.1", wyoming)) as other:
                    event = {"type": "synthesize", "data": {"text": "hello"}}
                    other.sendall(json.dumps(event).encode() + b"\n")
                    await asyncio.sleep(0.2)
                    await asyncio.to_thread(server.stop)
            assert not blocked.done()
            let_go.set()

    try:
        asyncio.run(talk())
    finally:
        let_go.set()


def test_unknown_kinds_and_text_frames_are_ignored(serve, question):
    async def run():
        async with arrived(serve().chat()) as client:
            await client.socket.send(b"\x09ignored")
            await client.socket.send("text")
            await client.socket.send(b"\x02hello")
            await client.socket.send(b"\x06")
            await client.until(HANDSHAKE)
            return await client.converse(question[:3])

    assert len(asyncio.run(run())) == 3
