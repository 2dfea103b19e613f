"""How long the gate's tests wait, and what they wait for."""

import contextlib
import socket
from dataclasses import replace

from tests.serve.conftest import HASTY

SHORT = replace(HASTY, opening_s=0.4, stall_s=0.4, linger_s=0.4, send_s=0.4)
SOON_S = 60.0  # only ever used up by a test that fails
UPGRADE_AND_MORE = (
    b"GET /api/chat?format=pcm HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def push(raw: socket.socket, data: bytearray) -> None:
    """Send what a socket takes at once; the rest stays in ``data``.

    ``sendall`` with a timeout would leave half a frame on the way, and what comes next
    would be read as the other half.

    Raises: ConnectionError if the other side has closed it.
    """
    raw.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while data:
            del data[: raw.send(data)]


def answer(raw: socket.socket) -> bytes:
    """Everything up to the end of the connection, which must come soon."""
    raw.settimeout(SOON_S)
    got = b""
    with raw, contextlib.suppress(ConnectionError):
        while data := raw.recv(65536):
            got += data
    return got
