"""An honest conversation beside attackers, and what they leave of the server.

``scripts/attack`` prints the figures; ``test_attacks.py`` holds them to their bounds.
"""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import moshi_mlx
from tests.family import listening
from tests.serve.attacks import HOST, KINDS
from tests.serve.client import AUDIO, joined
from tests.serve.http_attacks import HTTP
from tests.serve.kill_client import free_port
from tests.serve.speech_attacks import SPEECH
from tests.serve.wyoming_attacks import WYOMING
from tests.speech import TTS

FRAMES = 125  # 10 s
FRAME_S = 0.08
# Another address of this machine, at which nobody attacks; a Mac has but one.
NEIGHBOUR = "127.0.0.2" if sys.platform == "linux" else HOST
CLIENTS = 8
DESCRIPTIONS = 20  # that an honest client asks for during a conversation


@dataclass
class Heard:
    """What an honest client got for its frames.

    Attributes:
        replies: how many frames came back.
        interval_p95_s: between two of them.
        described_s: how long the Wyoming port took to describe itself, each time.
    """

    replies: int
    interval_p95_s: float
    described_s: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        said = f"{self.replies} replies, p95 {1000 * self.interval_p95_s:.0f} ms apart"
        most = 1000 * max(self.described_s, default=0.0)
        told = len(self.described_s)
        return f"{said}; Wyoming described itself {told} times, slowest {most:.0f} ms"


@dataclass
class State:
    """What the server holds."""

    memory: int
    handles: int
    log: int
    recordings: int

    def __str__(self) -> str:
        return (
            f"{self.memory / 2**20:.0f} MiB, {self.handles} handles, {self.log} bytes "
            f"of log, {self.recordings} files recorded"
        )


class Server:
    """``moshi-mlx serve --model demo`` on a free port, as people run it.

    Attributes:
        port, wyoming: of the web server, and for Home Assistant.
    """

    def __init__(self, folder: Path, *options: str):
        self.log, self.recordings = folder / "log", folder / "recordings"
        command = "from moshi_mlx.cli.main import main; import sys; sys.exit(main())"
        arguments = ["serve", "--model", "demo", "--port", "0", "--no-browser"]
        arguments += ["--max-sessions", "4", "--record", str(self.recordings), *options]
        self.wyoming = free_port()
        arguments += ["--wyoming", "--wyoming-port", str(self.wyoming)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", command, *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        while "http" not in (said := self.process.stdout.readline()):
            assert said, self.log.read_text()
        found = re.search(r":(\d+)", said)
        assert found is not None, said
        self.port = int(found[1])

    def state(self) -> State:
        pid = self.process.pid
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return State(
            pages * os.sysconf("SC_PAGE_SIZE"),
            len(os.listdir(f"/proc/{pid}/fd")),
            self.log.stat().st_size,
            len(list(self.recordings.iterdir())),
        )

    def end(self) -> int:
        """End it as a service manager does; returns the exit code."""
        self.process.terminate()
        try:
            code = self.process.wait(20)
        finally:
            self.process.kill()
            if self.process.stdout is not None:
                self.process.stdout.close()
        return code


def speaking(folder: Path) -> list[str]:
    """Options for small models that listen and speak, beside the demo's Moshi."""
    options = ["--stt", str(listening(folder / "stt")), "--tts", str(TTS)]
    return [*options, "--voice-repo", str(TTS), "--preload"]


def speech() -> np.ndarray:
    """A frame of somebody speaking: silence would be left out by a server in need."""
    folder = Path(moshi_mlx.__file__).parent / "demo" / "questions"
    return max(moshi_mlx.audio.frames(folder / "planet.wav"), key=np.std)


async def converse(port: int, frames: int = FRAMES, then=None) -> Heard:
    """Talk in real time, as a page does; ``then`` is called when the talk has begun."""
    frame = speech()
    times: list[float] = []
    async with joined(f"ws://{HOST}:{port}/api/chat?format=pcm&queue=1") as client:
        if then is not None:
            then()

        async def listen() -> None:
            while len(times) < frames:
                if await client.receive() == AUDIO:
                    times.append(time.perf_counter())

        listening = asyncio.ensure_future(listen())
        began = time.perf_counter()
        for n in range(frames):
            await asyncio.sleep(max(0.0, began + n * FRAME_S - time.perf_counter()))
            await client.say(frame)
        await asyncio.wait([listening], timeout=10)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    gaps = np.diff(times) if len(times) > 1 else np.array([np.inf])
    return Heard(len(times), float(np.quantile(gaps, 0.95)))


async def described(port: int, times: int = DESCRIPTIONS) -> list[float]:
    """Seconds that the Wyoming port takes to describe itself, asked twice a second."""
    took: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        neighbour = NEIGHBOUR, 0
        reader, writer = await asyncio.open_connection(HOST, port, local_addr=neighbour)
        writer.write(b'{"type": "describe"}\n')
        if b'"info"' in await asyncio.wait_for(reader.readline(), 30):
            took.append(time.perf_counter() - began)
        writer.close()
        await asyncio.sleep(0.5)
    return took


async def honest(server: Server, then=None) -> Heard:
    """A conversation, and beside it a client of the Wyoming port."""
    talking = asyncio.ensure_future(converse(server.port, then=then))
    took = await described(server.wyoming)
    heard = await talking
    heard.described_s = took
    return heard


@contextmanager
def attackers(
    server: Server, kinds: list[str], clients: int = CLIENTS, seconds: float = 14
) -> Iterator[None]:
    """Attackers in processes of their own, each with the kinds in another order."""
    running = []
    for n in range(clients):
        mine = kinds[n % len(kinds) :] + kinds[: n % len(kinds)]
        step = 3 if len(kinds) > 3 else 1
        mine = [*mine[::step], *mine[1::step], *mine[2::step]][: len(kinds)]
        where = [str(server.port), str(server.wyoming), str(seconds)]
        command = [sys.executable, "-m", "tests.serve.attacks", *where, *mine]
        running.append(subprocess.Popen(command))
    try:
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(10)


def conversation_under_attack(server: Server, kinds: list[str]) -> Heard:
    """An honest conversation that attackers join when it has begun."""
    attack = attackers(server, kinds)
    try:
        return asyncio.run(honest(server, then=attack.__enter__))
    finally:
        attack.__exit__(None, None, None)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="moshi-attack-") as folder:
        server = Server(Path(folder), *speaking(Path(folder)))
        try:
            asyncio.run(converse(server.port, 25))
            print(f"alone: {server.state()}")
            before = asyncio.run(honest(server))
            state = server.state()
            print(f"before: {before}; {state}")
            for kind in sys.argv[1:] or [None]:
                kinds = (
                    list(KINDS | SPEECH | HTTP | WYOMING) if kind is None else [kind]
                )
                during = conversation_under_attack(server, kinds)
                slower = during.interval_p95_s / before.interval_p95_s
                print(f"{kind or 'all kinds'}: {during}, p95 x {slower:.2f}", end="; ")
                print(server.state(), flush=True)
            time.sleep(12)
            after = asyncio.run(honest(server))
            print(f"after: {after}; {server.state()}")
        finally:
            began = time.monotonic()
            print(f"exit code {server.end()} in {time.monotonic() - began:.1f} s")
            print(server.log.read_text()[-3000:])


if __name__ == "__main__":
    main()
