"""What strangers do to a server: each kind as a program of its own, until it is told.

Run as ``python -m tests.serve.attacks PORT WYOMING_PORT SECONDS KIND...``: the kinds in
turn, each again and again, as unkindly as one thread can. Only ever against this
machine.
"""

import contextlib
import itertools
import os
import random
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator

from tests.serve.ogg import beginning

HOST = "127.0.0.1"
PLAIN = "format=pcm&queue=1"
UPGRADE = (
    "GET /api/chat?{query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
)
TEXT, BINARY, PING, PONG = 1, 2, 9, 10


def opened(port: int, data: bytes | str = b"", receive_buffer: int = 0):
    """A connection that has sent ``data``."""
    raw = socket.socket()
    if receive_buffer:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.settimeout(30)
    raw.connect((HOST, port))
    raw.sendall(data.encode() if isinstance(data, str) else data)
    return raw


def upgraded(port: int, query: str = PLAIN, more: str = "", receive_buffer: int = 0):
    """A connection that has asked for a WebSocket."""
    return opened(port, UPGRADE.format(query=query, more=more), receive_buffer)


def frame(opcode: int, payload: bytes = b"", final: bool = True) -> bytes:
    """A WebSocket frame as clients send it, masked with zeros."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 1 << 16:
        length = b"\xfe" + struct.pack(">H", size)
    else:
        length = b"\xff" + struct.pack(">Q", size)
    return bytes([opcode | (0x80 if final else 0)]) + length + bytes(4) + payload


def drained(raw: socket.socket, seconds: float = 0.0) -> bytes:
    """What the server says within some time."""
    got, until = b"", time.monotonic() + seconds
    with contextlib.suppress(OSError):
        while len(got) < 1 << 16:
            raw.settimeout(max(0.01, until - time.monotonic()))
            data = raw.recv(65536)
            if not data:
                break
            got += data
    return got


def flooding(raw: socket.socket, data: bytes) -> Iterator[None]:
    """Send the same again and again; ends when the server has enough of it."""
    raw.settimeout(0.2)
    rest = memoryview(data)
    with raw, contextlib.suppress(OSError):
        while True:
            with contextlib.suppress(socket.timeout):
                rest = rest[raw.send(rest) :] or memoryview(data)
            yield


def holding(raw: socket.socket, seconds: float = 3.0) -> Iterator[None]:
    """Keep a connection open and do nothing."""
    with raw:
        for _ in range(int(seconds / 0.1)):
            time.sleep(0.1)
            yield


def long_query(port: int) -> Iterator[None]:
    return holding(upgraded(port, "a=" + "x" * 9000), 0.2)


def long_header(port: int) -> Iterator[None]:
    return holding(upgraded(port, more=f"X: {'x' * 9000}\r\n"), 0.2)


def many_headers(port: int) -> Iterator[None]:
    more = "".join(f"X-{n}: 1\r\n" for n in range(300))
    return holding(upgraded(port, more=more), 0.2)


def upgrade_with_body(port: int) -> Iterator[None]:
    return holding(upgraded(port, more="Content-Length: 10\r\n"), 0.2)


def one_byte_more(port: int) -> Iterator[None]:
    return holding(
        opened(port, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nX"), 0.2
    )


def half_a_head(port: int) -> Iterator[None]:
    return holding(opened(port, "GET / HTTP/1.1\r\nHo"))


def silence(port: int) -> Iterator[None]:
    return holding(opened(port))


def byte_by_byte(port: int) -> Iterator[None]:
    with opened(port, "GET / HTTP/1.1\r\n") as raw, contextlib.suppress(OSError):
        for byte in itertools.cycle(b"X-Header: value\r\n"):
            raw.sendall(bytes([byte]))
            time.sleep(0.05)
            yield


def post_without_body(port: int) -> Iterator[None]:
    head = "POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\nX"
    return holding(opened(port, head))


def body_without_end(port: int) -> Iterator[None]:
    head = "POST /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    return flooding(opened(port, head + "\r\n"), b"4000\r\n" + bytes(16384) + b"\r\n")


def empty_continuations(port: int) -> Iterator[None]:
    raw = upgraded(port)
    drained(raw, 0.05)
    raw.sendall(frame(BINARY, final=False))
    return flooding(raw, frame(0, final=False) * 10_000)


def empty_messages(port: int) -> Iterator[None]:
    return flooding(upgraded(port), frame(TEXT) * 10_000)


def pings(port: int) -> Iterator[None]:
    return flooding(upgraded(port), frame(PING) * 10_000)


def pongs(port: int) -> Iterator[None]:
    return flooding(upgraded(port), frame(PONG, b"x") * 10_000)


def unread_pongs(port: int) -> Iterator[None]:
    raw = upgraded(port, receive_buffer=2048)
    return flooding(raw, frame(PING, b"x" * 125) * 500)


def unread_sound(port: int) -> Iterator[None]:
    raw = upgraded(port, receive_buffer=2048)
    return flooding(raw, frame(BINARY, b"\1" + bytes(7680)))


def restarts(port: int) -> Iterator[None]:
    raw = upgraded(port)
    drained(raw, 0.05)
    return flooding(raw, frame(BINARY, b"\3\3") * 20)


def sound_at_once(port: int) -> Iterator[None]:
    raw = upgraded(port)
    drained(raw, 0.05)
    return flooding(raw, frame(BINARY, b"\1" + bytes(4 * 24000)))


def pages_without_sound(port: int) -> Iterator[None]:
    page = b"OggS\0\0" + bytes(8) + struct.pack("<III", 7, 1, 0) + b"\0"
    data = b"\1" + beginning() + page * 37_000
    raw = upgraded(port, "queue=1")
    drained(raw, 0.05)
    return flooding(raw, frame(BINARY, data))


def noise_as_frames(port: int) -> Iterator[None]:
    raw = upgraded(port)
    drained(raw, 0.05)
    return flooding(raw, random.randbytes(20_000))


def endless_frame(port: int) -> Iterator[None]:
    raw = upgraded(port)
    raw.sendall(b"\x82\xff" + struct.pack(">Q", 1 << 60) + bytes(4))
    return flooding(raw, bytes(60_000))


def come_and_go(port: int) -> Iterator[None]:
    for _ in range(20):
        with contextlib.suppress(OSError):
            upgraded(port).close()
        yield


def foreign_pages(port: int) -> Iterator[None]:
    return holding(upgraded(port, more="Origin: http://evil.example\r\n"), 0.1)


def hundred_at_once(port: int) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            with contextlib.suppress(OSError):
                stack.enter_context(opened(port, "GET /"))
        yield from holding(opened(port), 1)


def unread_page(port: int) -> Iterator[None]:
    head = "GET /app.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    return holding(opened(port, head, receive_buffer=2048))


KINDS: dict[str, Callable[[int], Iterator[None]]] = {
    kind.__name__: kind
    for kind in (
        *(long_query, long_header, many_headers, upgrade_with_body, one_byte_more),
        *(half_a_head, silence, byte_by_byte, post_without_body, body_without_end),
        *(empty_continuations, empty_messages, pings, pongs, unread_pongs),
        *(unread_sound, restarts, sound_at_once, pages_without_sound),
        *(noise_as_frames, endless_frame, come_and_go, foreign_pages),
        *(hundred_at_once, unread_page),
    )
}


def attack(port: int, wyoming: int, seconds: float, kinds: list[str]) -> None:
    """Do each kind for a while, in turn, until the time is over."""
    from tests.serve.http_attacks import HTTP
    from tests.serve.speech_attacks import SPEECH
    from tests.serve.wyoming_attacks import WYOMING

    known = KINDS | SPEECH | HTTP | WYOMING
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for kind in kinds:
            turn = min(until, time.monotonic() + 2)
            with contextlib.suppress(OSError):
                for _ in known[kind](wyoming if kind in WYOMING else port):
                    if time.monotonic() > turn:
                        break
            time.sleep(0.02)  # a connection refused costs the attacker something too


if __name__ == "__main__":
    os.nice(19)
    port, wyoming, seconds = map(float, sys.argv[1:4])
    attack(int(port), int(wyoming), seconds, sys.argv[4:])
