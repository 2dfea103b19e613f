"""Two servers behind one address, as the documentation's HAProxy file puts them."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgpack
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.serve.client import PATIENCE_S
from tests.serve.small import VOICE
from tests.serve.wyoming.test_models import free_port
from tests.speech import TTS

DOCS = Path(__file__).parents[2] / "docs"
WORDS = "hello there how are you today in paris " * 8


@contextmanager
def speaking_server() -> Iterator[tuple[subprocess.Popen, int]]:
    """`moshi-mlx serve` with a small model that speaks, and its port."""
    command = [sys.executable, "-m", "moshi_mlx", "serve", "--tts", str(TTS)]
    command += ["--voice-repo", str(TTS), "--preload", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=-1, stderr=-3, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r":(\d+)", process.stdout.readline())
            assert found is not None
            yield process, int(found[1])
        finally:
            process.kill()


@contextmanager
def proxy(folder: Path, ports: list[int]) -> Iterator[int]:
    """HAProxy with the file of docs/programs.md before servers on this machine."""
    text = (DOCS / "programs.md").read_text(encoding="utf-8")
    [config] = re.findall(r"```text\n(defaults\n.*?)```", text, re.DOTALL)
    mine = free_port()
    config = config.replace("bind :8998", f"bind 127.0.0.1:{mine}")
    for number, port in zip(("11", "12"), ports, strict=True):
        config = config.replace(f"192.168.1.{number}:8998", f"127.0.0.1:{port}")
    (folder / "haproxy.cfg").write_text(config)
    with subprocess.Popen(
        ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], stderr=-3
    ) as process:
        try:
            yield mine
        finally:
            process.kill()


class Listener:
    """A client that has a text said."""

    def __init__(self, port: int):
        url = f"ws://localhost:{port}/api/tts_streaming?format=PcmMessagePack"
        self.socket = connect(f"{url}&voice={VOICE}", max_size=None, legacy=True)
        for message in ({"type": "Text", "text": WORDS}, {"type": "Eos"}):
            self.socket.send(msgpack.Packer().pack(message))
        self.frames = 0
        while not self.frames:
            self.hear()

    def hear(self) -> None:
        kind = msgpack.unpackb(self.socket.recv(PATIENCE_S))["type"]
        self.frames += kind == "Audio"

    def to_the_end(self) -> int:
        """The code with which the server closes."""
        try:
            while True:
                self.hear()
        except ConnectionClosed as end:
            return 1006 if end.rcvd is None else end.rcvd.code


def arrives(port: int) -> Listener:
    """A client that comes again as long as nobody is there."""
    late = time.monotonic() + PATIENCE_S
    while True:
        try:
            return Listener(port)
        except (ConnectionClosed, InvalidStatus, OSError):
            assert time.monotonic() < late
            time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("haproxy"), reason="not on this machine: haproxy")
def test_when_a_server_is_killed_new_clients_go_to_the_other(tmp_path):
    with speaking_server() as one, speaking_server() as two:
        running = {port: process for process, port in (one, two)}
        with proxy(tmp_path, list(running)) as port:
            first, second = arrives(port), arrives(port)
            one[0].kill()  # in mid-talk
            ends = [first.to_the_end(), second.to_the_end()]
            assert sorted(ends) == [1000, 1006]
            whole = max(first.frames, second.frames)
            later = [arrives(port) for _ in range(2)]
            assert [talk.to_the_end() for talk in later] == [1000, 1000]
            assert all(talk.frames > whole / 2 for talk in later)
