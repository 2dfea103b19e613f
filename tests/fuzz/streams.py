"""Mutated byte streams to a server: requests, WebSocket frames, messages."""

import contextlib
import logging
import random
import socket
import struct
import threading
import time
from pathlib import Path

import moshi_mlx
from moshi_mlx.engines.owner import model_thread
from moshi_mlx.serve.app import make_app, page_folder
from moshi_mlx.serve.gate.limits import Limits
from moshi_mlx.serve.gate.logs import is_news
from moshi_mlx.serve.gate.security import Policy
from moshi_mlx.serve.server import make_server
from moshi_mlx.serve.service import Service, describe, load_batch
from tests.serve.attacks import UPGRADE, frame
from tests.serve.ogg import beginning, page

LIMITS = Limits(
    opening_s=1, stall_s=1, linger_s=0.3, bytes_per_s=1e8, burst_bytes=1e9, burst_s=1e9
)
LOGGERS = ("moshi_mlx", "uvicorn.error", "asyncio", "websockets")


class _Errors(logging.Handler):
    """Errors that the server logs: each is a find."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and is_news(record):
            self.found.append(record)


class StreamTarget:
    """A server with the demo, in this process; ``attempt`` is one case."""

    def __init__(self) -> None:
        thread = model_thread()
        batch = load_batch(thread, lambda: moshi_mlx.load("demo"), 1)
        self.service = Service(thread, batch, describe(batch), 1, LIMITS)
        app = make_app(self.service, Policy(), page_folder())
        ports: list[int] = []
        self._server = make_server(
            app, self.service, "localhost", 0, on_start=ports.append
        )
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not ports:
            time.sleep(0.01)
        self.port = ports[0]
        self.errors = _Errors()
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self.errors)

    def attempt(self, rng: random.Random, _folder: Path) -> None:
        data = stream(rng)
        with socket.create_connection(("localhost", self.port)) as raw:
            raw.settimeout(0.05)
            at = 0
            with contextlib.suppress(OSError):
                while at < len(data):
                    step = rng.choice((1, 7, 200, 5000, 1 << 20))
                    raw.sendall(data[at : at + step])
                    at += step
                raw.settimeout(0.02)
                while raw.recv(1 << 16):
                    pass
        if self.errors.found:
            record = self.errors.found.pop()
            raise RuntimeError(record.getMessage()) from (
                record.exc_info or [None] * 2
            )[1]

    def close(self) -> None:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self.errors)
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive(), "the server does not end"
        assert not self.errors.found


def message(rng: random.Random) -> bytes:
    """A message of the protocol, right or nearly."""
    sort = rng.randrange(6)
    if sort == 0:
        return rng.randbytes(rng.randrange(300))
    if sort == 1:
        return b"\1" + rng.randbytes(4 * rng.randrange(4000))
    if sort == 2:
        packets = [rng.randbytes(rng.randrange(60)) for _ in range(rng.randrange(6))]
        return b"\1" + beginning() + page(packets, 2, flags=rng.randrange(8))
    if sort == 3:
        return bytes([3, rng.randrange(6)])
    if sort == 4:
        return b"\1" + beginning()[: rng.randrange(130)]
    return bytes([rng.randrange(12)])


def frames(rng: random.Random) -> bytes:
    """WebSocket frames, most of them right."""
    parts = []
    for _ in range(rng.randrange(30)):
        opcode = rng.choice((0, 1, 2, 2, 2, 8, 9, 10, rng.randrange(16)))
        final = rng.random() < 0.8
        whole = frame(opcode, message(rng), final)
        if rng.random() < 0.1:
            whole = bytes([whole[0] | 0x70 & rng.randrange(256)]) + whole[1:]
        if rng.random() < 0.05:
            whole = whole[:1] + b"\xff" + struct.pack(">Q", rng.getrandbits(64))
        parts.append(whole)
    return b"".join(parts)


def stream(rng: random.Random) -> bytes:
    """A request for a WebSocket and what may follow, some bytes of it changed."""
    query = rng.choice(("", "format=pcm", "queue=1&format=pcm", "format=x", "seed=-1"))
    more = rng.choice(
        ("", "", "", "Content-Length: 4\r\n", "X: " + "y" * 9000 + "\r\n")
    )
    head = UPGRADE.format(query=query, more=more).encode()
    if rng.random() < 0.2:
        path = rng.choice(("/", "/health", "/%00", "/a" * 3000, "//", "/?token=%ff"))
        method = rng.choice(("GET", "HEAD", "POST", "PUT", "OPTIONS", "BREW"))
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()
    data = bytearray(head + frames(rng))
    for _ in range(rng.choice((0, 0, 0, 1, 5, 50))):
        where = len(head) if rng.random() < 0.3 else len(data)
        data[rng.randrange(where)] = rng.randrange(256)
    return bytes(data)
