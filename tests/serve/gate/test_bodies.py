"""Bodies of requests come whole or are not waited for, and a server ends well."""

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from moshi_mlx.serve.gate.gate import Gate
from moshi_mlx.serve.gate.limits import Limits
from moshi_mlx.serve.server import make_server
from tests.serve.attacks import (
    opened,
)
from tests.serve.conftest import HASTY
from tests.serve.gate.patience import SHORT, SOON_S, UPGRADE_AND_MORE, answer


@contextlib.contextmanager
def counting(limits: Limits):
    """A server whose one route says how long the body was."""

    async def app(scope, receive, send) -> None:
        size, more = 0, True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            size, more = size + len(event["body"]), event["more_body"]
        length = str(len(str(size))).encode()
        headers = [(b"connection", b"close"), (b"content-length", length)]
        start = {"type": "http.response.start", "status": 200, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": str(size).encode()})

    service = SimpleNamespace(gate=Gate(limits), limits=limits, closing=asyncio.Event())
    ports: list[int] = []
    server = make_server(app, service, "localhost", 0, on_start=ports.append)  # type: ignore[arg-type]
    running = threading.Thread(target=server.run)
    running.start()
    while not ports:
        time.sleep(0.01)
    yield ports[0]
    server.should_exit = True
    running.join(SOON_S)
    assert not running.is_alive()


POST = "POST / HTTP/1.1\r\nHost: localhost\r\n"


def test_bodies_come_through_whole_however_they_are_sent():
    body = bytes(200_000)
    chunks = (
        b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in (body, b"x")) + b"0\r\n\r\n"
    )
    with counting(HASTY) as port:
        long = f"{POST}Content-Length: {len(body)}\r\n"
        got = answer(opened(port, long.encode() + b"\r\n" + body + b"more"))
        assert got.endswith(b"200000")
        raw = opened(port, long + "Expect: 100-continue\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 100")
        raw.sendall(body)
        assert answer(raw).endswith(b"200000")
        head = f"{POST}Transfer-Encoding: chunked\r\n\r\n".encode()
        assert answer(opened(port, head + chunks)).endswith(b"200001")


@pytest.mark.parametrize(
    "head",
    ["Content-Length: 9", "Transfer-Encoding: chunked", "Content-Length: 999999"],
)
@pytest.mark.parametrize("trickling", [False, True])
def test_a_body_that_stalls_is_not_waited_for(head, trickling):
    with counting(SHORT) as port, opened(port, f"{POST}{head}\r\n\r\n4\r\n") as raw:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while trickling and time.monotonic() - began < SOON_S:
                raw.sendall(b"x" if "999" in head else b"")
                raw.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    if raw.recv(1) == b"":
                        break
        assert answer(raw) == b""


@pytest.mark.slow
def test_a_server_that_is_told_to_end_ends_well(tmp_path):
    command = "from moshi_mlx.cli.main import main; import sys; sys.exit(main())"
    options = ["serve", "--model", "demo", "--port", "0", "--no-browser"]
    process = subprocess.Popen(
        [sys.executable, "-c", command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout is not None and process.stderr is not None
    port = int(re.findall(r":(\d+)", process.stdout.readline())[0])
    with contextlib.ExitStack() as stack:
        for data in ("", "GET / HT", UPGRADE_AND_MORE, UPGRADE_AND_MORE):
            stack.enter_context(opened(port, data))
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SOON_S) == -signal.SIGTERM
    assert process.stderr.read() == ""
    process.stdout.close()
    process.stderr.close()
