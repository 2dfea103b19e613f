"""A client that talks to the server of its own process, and then ends it."""

import contextlib
import os
import signal
import socket
import time

import numpy as np


def free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return any_port.getsockname()[1]


def talk(port: int, frames: int) -> None:
    """Say some frames, hear answers, and send Ctrl-C."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    url = f"ws://127.0.0.1:{port}/api/chat?format=pcm"
    frame = 0.1 * np.random.default_rng(0).standard_normal(1920).astype("<f4")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(OSError, ConnectionClosed), connect(url) as client:
            while client.recv()[:1] != b"\0":
                pass
            for _ in range(frames):
                client.send(b"\1" + frame.tobytes())
                client.recv()
            break
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)
