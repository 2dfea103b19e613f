"""What stalls, floods or asks wrongly is answered and gone within seconds."""

import asyncio
import contextlib
import ssl
import struct
import time
import urllib.request
from dataclasses import replace

import pytest
from websockets.exceptions import ConnectionClosed

from moshi_mlx.serve.gate import tls
from moshi_mlx.serve.gate.addresses import read_proxies
from moshi_mlx.serve.gate.limits import Limits
from tests.serve.attacks import (
    BINARY,
    PING,
    PONG,
    TEXT,
    frame,
    opened,
    upgraded,
)
from tests.serve.client import joined
from tests.serve.conftest import HASTY
from tests.serve.gate.patience import SHORT, SOON_S, UPGRADE_AND_MORE, answer, push
from tests.serve.ogg import beginning


def assert_all_gone(server) -> None:
    until = time.monotonic() + SOON_S
    while server.service.gate.count and time.monotonic() < until:
        time.sleep(0.02)
    assert server.service.gate.count == 0


@pytest.mark.parametrize(
    "query, more",
    [
        ("a=" + "x" * 9000, ""),
        ("", f"X: {'x' * 9000}\r\n"),
        ("", "".join(f"X-{n}: 1\r\n" for n in range(200))),
        ("", "Content-Length: 10\r\n"),
        ("", "Transfer-Encoding: chunked\r\n"),
        ("", "X : folded\r\n"),
    ],
)
def test_a_request_that_no_library_answers_is_answered_400_and_closed(
    serve, query, more
):
    server = serve()
    assert answer(upgraded(server.port, query, more)).startswith(b"HTTP/1.1 400 ")
    assert_all_gone(server)


@pytest.mark.parametrize(
    "data, status",
    [
        (b"", b"408"),
        (b"G", b"408"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"408"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nX", b"200"),
        (b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n" * 50, b"200"),
        (
            b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
            b"405",
        ),
    ],
)
def test_whoever_stalls_after_any_byte_is_gone_soon(serve, data, status):
    server = serve(limits=SHORT)
    assert answer(opened(server.port, data)).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_connection_without_a_tls_hello_is_gone_soon(serve, first):
    context, _ = tls.made_on_the_spot(["localhost"])
    server = serve(tls=context, limits=SHORT)
    answer(opened(server.port, first))
    assert_all_gone(server)


def test_a_server_with_tls_answers_who_says_hello(serve):
    context, _ = tls.made_on_the_spot(["localhost"])
    url = serve(tls=context).url("/health").replace("http:", "https:")
    trusting = ssl._create_unverified_context()
    with urllib.request.urlopen(url, context=trusting, timeout=SOON_S) as good:
        assert good.status == 200


def test_slow_heads_are_no_heads(serve):
    server = serve(limits=SHORT)
    with opened(server.port, "GET / HTTP/1.1\r\n") as raw:
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - began < SOON_S:
                raw.sendall(b"X")
                time.sleep(0.05)


def test_newcomers_take_the_place_of_those_who_stall(serve):
    server = serve(limits=replace(HASTY, connections=6, per_address=4))
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(opened(server.port, "GET /"))
        with urllib.request.urlopen(server.url("/health"), timeout=SOON_S) as good:
            assert good.status == 200
        assert server.service.gate.count <= 4


def test_conversations_make_no_room_and_too_many_are_told(serve):
    server = serve(places=1, limits=replace(HASTY, per_address=3))
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            raw = stack.enter_context(upgraded(server.port))
            raw.recv(1000)
        assert answer(opened(server.port, "GET /health")).startswith(b"HTTP/1.1 503 ")
        assert server.service.gate.count == 3


def test_a_trusted_proxy_s_clients_are_counted_each(serve):
    limits = replace(HASTY, per_address=2)
    proxies = read_proxies(["127.0.0.0/8", "::1"])
    server = serve(places=1, limits=limits, proxies=proxies)
    with contextlib.ExitStack() as stack:
        for client in ("1.1.1.1", "1.1.1.1", "2.2.2.2"):
            more = f"X-Forwarded-For: {client}\r\n"
            raw = stack.enter_context(upgraded(server.port, more=more))
            assert raw.recv(1000).startswith(b"HTTP/1.1 101")
        third = upgraded(server.port, more="X-Forwarded-For: 1.1.1.1\r\n")
        assert answer(third).startswith(b"HTTP/1.1 503 ")
        accounts = server.service.gate.accounts._accounts
        assert accounts["1.1.1.1"].connections == 2
        assert accounts["2.2.2.2"].connections == 1


def test_nobody_else_s_word_for_an_address_is_taken(serve):
    server = serve()
    with upgraded(server.port, more="X-Forwarded-For: 1.1.1.1\r\n") as raw:
        raw.recv(1000)
        assert set(server.service.gate.accounts._accounts) <= {"127.0.0.1", "::1"}


def parts() -> bytes:
    return frame(BINARY, final=False) + frame(0, final=False) * 5000


@pytest.mark.parametrize(
    "data",
    [
        parts(),
        frame(PING) * 5000,
        frame(PONG, b"x") * 5000,
        frame(TEXT) * 5000,
        frame(PING, b"x" * 125) * 5000,
    ],
    ids=["parts", "pings", "pongs", "texts", "long pings"],
)
@pytest.mark.parametrize("place", ["talking", "queueing"])
def test_every_kind_of_frame_is_charged(serve, data, place):
    server = serve(places=1 if place == "talking" else 0, limits=Limits(linger_s=0.5))
    raw = upgraded(server.port)
    raw.recv(100)
    with contextlib.suppress(OSError):
        for _ in range(4):
            raw.sendall(data)
    answer(raw)
    assert_all_gone(server)


def test_a_message_in_too_many_parts_is_told_so(serve):
    server = serve()

    async def run():
        async with joined(server.chat()) as client:
            transport = client.socket.transport
            data = frame(BINARY, final=False) + frame(0, final=False) * 1100
            transport.write(data)
            return await client.until_closed(), client.errors

    code, errors = asyncio.run(run())
    assert code == 1008 and "more than 1024 parts" in errors[0]


def test_pongs_that_nobody_reads_are_not_kept(serve):
    server = serve(limits=replace(SHORT, bytes_per_s=1e9, burst_bytes=1e9))
    raw = upgraded(server.port, receive_buffer=2048)
    unsent = bytearray()
    until = time.monotonic() + SOON_S
    with contextlib.suppress(ConnectionError):
        while server.service.gate.count and time.monotonic() < until:
            unsent += b"" if unsent else frame(PING, b"x" * 125) * 100
            push(raw, unsent)
            time.sleep(0.01)
    raw.close()
    assert time.monotonic() < until


def test_frames_that_come_with_the_request_wait_for_its_answer(serve):
    server = serve()
    with upgraded(server.port, "format=pcm&token=x") as raw:
        raw.sendall(frame(BINARY, b"\1" + bytes(7680)))
        raw.settimeout(SOON_S)
        got = b""
        while b"\x82\x09\0" not in got:  # the handshake of the protocol
            got += raw.recv(65536)
        assert got.startswith(b"HTTP/1.1 101 ")
    data = UPGRADE_AND_MORE + frame(PING, b"hello")
    with opened(server.port, data) as raw:
        raw.settimeout(SOON_S)
        got = b""
        while b"\x8a\x05hello" not in got:
            got += raw.recv(65536)


def test_pages_without_sound_cost_nothing(serve):
    page = b"OggS\0\0" + bytes(8) + struct.pack("<III", 7, 1, 0) + b"\0"
    server = serve()

    async def run():
        async with joined(server.chat("")) as client:
            await client.socket.send(b"\1" + beginning() + page * 30_000)
            return await client.until_closed(), client.errors

    code, errors = asyncio.run(run())
    assert code == 1008 and "more than 1000 Ogg pages" in errors[0]


def test_restarts_are_limited_and_leave_no_files(serve, tmp_path, question):
    server = serve(record=tmp_path / "talks")

    async def run():
        async with joined(server.chat()) as client:
            with contextlib.suppress(ConnectionClosed):
                for _ in range(15):
                    await client.control(3)
            return await client.until_closed(), client.errors

    code, errors = asyncio.run(run())
    assert code == 1008 and "too many restarts" in errors[0]
    assert not (tmp_path / "talks").exists() or not list((tmp_path / "talks").iterdir())


@pytest.mark.parametrize(
    "path", ["/", "/health", "/metrics", "/api/build_info", "/app.js"]
)
def test_head_is_answered_like_get_without_a_body(serve, path):
    server = serve()
    request = f"{{}} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = answer(opened(server.port, request.format("HEAD")))
    get = answer(opened(server.port, request.format("GET")))
    assert head.startswith(b"HTTP/1.1 200 ") and head.endswith(b"\r\n\r\n")
    assert get.startswith(b"HTTP/1.1 200 ") and len(get) > len(head)


def test_one_request_is_answered_on_a_connection(serve):
    request = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    got = answer(opened(serve().port, request * 3))
    assert got.count(b"HTTP/1.1 ") == 1 and b"connection: close" in got.lower()
