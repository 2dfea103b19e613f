"""A client that reads nothing costs the others nothing."""

import asyncio
import contextlib
import socket
import time
from dataclasses import replace

from tests.serve.attacks import BINARY, PING, frame, upgraded
from tests.serve.client import PATIENCE_S, joined
from tests.serve.conftest import HASTY
from tests.serve.gate.patience import push

SLOW = replace(HASTY, unsent_bytes=1 << 30, bytes_per_s=1e9, burst_bytes=1e9)
PINGS = frame(PING, b"x" * 125) * 100  # pongs that nobody reads fill every buffer
SOUND = frame(BINARY, b"\x01" + bytes(4 * 1920))


def test_replies_that_a_client_does_not_read_are_dropped(serve, question):
    """The newest stay; the other conversation goes on."""
    server = serve(places=2, limits=replace(SLOW, send_s=300, unsent_frames=2))
    dropped = server.service.metrics.dropped.counts
    raw = upgraded(server.port, receive_buffer=2048)

    async def run() -> int:
        unsent, until = bytearray(), time.monotonic() + PATIENCE_S
        async with joined(server.chat()) as client:
            while waiting_for(server, raw) < 1 << 17 or unsent:
                assert time.monotonic() < until, "the pongs are not kept"
                if waiting_for(server, raw) < 1 << 17 and not unsent:
                    unsent += PINGS
                push(raw, unsent)
                await asyncio.sleep(0.01)
            while not dropped["unsent"]:
                assert time.monotonic() < until, "replies are not dropped"
                unsent += b"" if unsent else SOUND
                push(raw, unsent)
                await client.converse(question[:1])
            return len(client.pcm)

    try:
        assert asyncio.run(run()) > 0
    finally:
        raw.close()


def test_a_client_that_reads_nothing_loses_its_place(serve, question):
    """The other conversation goes on."""
    server = serve(places=2, limits=replace(SLOW, send_s=0.3))
    raw = upgraded(server.port, receive_buffer=2048)

    async def run() -> int:
        unsent, until = bytearray(), time.monotonic() + PATIENCE_S
        async with joined(server.chat()) as client:
            while server.service.lobby.taken < 2:
                await asyncio.sleep(0.01)
            while server.service.lobby.taken == 2:
                assert time.monotonic() < until, "the slow reader keeps its place"
                unsent += b"" if unsent else PINGS + SOUND
                with contextlib.suppress(ConnectionError):
                    push(raw, unsent)
                await asyncio.sleep(0.01)
            return len(await client.converse(question[:2]))

    try:
        assert asyncio.run(run()) == 2
    finally:
        raw.close()


def waiting_for(server, raw: socket.socket) -> int:
    """Bytes that the server holds for a client."""
    connection = server.service.gate.of(raw.getsockname()[:2])
    return connection._out.get_write_buffer_size() if connection else 0
