"""Clients of moshi-server's protocol that know its bytes and nothing of the package."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

PATIENCE_S = 120.0  # for a message that must come


class Peer:
    """One websocket; messages are maps with a type."""

    def __init__(self, socket: ClientConnection):
        self.socket = socket

    def send(self, kind: str, **fields: Any) -> None:
        self.socket.send(msgpack.packb({"type": kind, **fields}) or b"")

    def say(self, pcm: np.ndarray, piece: int = 1920) -> None:
        for start in range(0, len(pcm), piece):
            self.send("Audio", pcm=pcm[start : start + piece].tolist())

    def receive(self) -> dict[str, Any]:
        return msgpack.unpackb(self.socket.recv(PATIENCE_S))

    def until(self, kind: str) -> list[dict[str, Any]]:
        """Messages up to the first of a kind."""
        told = [self.receive()]
        while told[-1]["type"] != kind:
            told.append(self.receive())
        return told

    def rest(self) -> list[Any]:
        """Everything until the connection is closed."""
        told = []
        try:
            while True:
                told.append(self.socket.recv(PATIENCE_S))
        except ConnectionClosed:
            return told


@contextmanager
def peer(server, path: str) -> Iterator[Peer]:
    url = f"ws://localhost:{server.port}{path}"
    with connect(url, max_size=None, compression=None, close_timeout=1) as socket:
        yield Peer(socket)


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], None]:
    """Wait until something is so."""

    def wait(so: Callable[[], Any]) -> None:
        until = time.monotonic() + PATIENCE_S
        while not so() and time.monotonic() < until:
            time.sleep(0.02)
        assert so()

    return wait
