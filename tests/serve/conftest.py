"""Real servers on free ports, with the model that comes with the package."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.engines.duplex.batch import Batch
from moshi_mlx.engines.owner import model_thread
from moshi_mlx.engines.thread import ModelThread
from moshi_mlx.serve.app import make_app, page_folder
from moshi_mlx.serve.gate.addresses import Network
from moshi_mlx.serve.gate.limits import Limits
from moshi_mlx.serve.gate.security import Policy
from moshi_mlx.serve.personas import Personas
from moshi_mlx.serve.server import Beside, make_server
from moshi_mlx.serve.service import Service, describe, load_batch
from moshi_mlx.serve.speech import SpeechService

# A test's client speaks as fast as the model answers, not in real time, and on a busy
# machine it may be slow to open a connection, to send and to read.
HASTY = Limits(
    sound_per_s=100,
    waiting_ms=10_000,
    **dict.fromkeys(("idle_s", "send_s", "read_s", "opening_s", "stall_s"), 300.0),
)
# As a server is, but a machine that is too slow answers late; it drops no sound.
PATIENT = Limits(waiting_ms=120_000)
UP_S = 120  # only ever used up by a server that does not start, or does not end
ROWS = 2


@pytest.fixture(scope="session")
def batch() -> Batch:
    return load_batch(model_thread(), lambda: moshi_mlx.load("demo"), ROWS)


@dataclass
class Running:
    """A server that is up."""

    service: Service
    port: int
    stop: Callable[[], None]

    def chat(self, query: str = "format=pcm&seed=1") -> str:
        return f"ws://localhost:{self.port}/api/chat?{query}"

    def url(self, path: str) -> str:
        return f"http://localhost:{self.port}{path}"


Serve = Callable[..., Running]


@pytest.fixture
def serve(batch) -> Iterator[Serve]:
    """Start a server: ``serve(places=1, limits=HASTY, ...)``."""
    running: list[Running] = []

    def start(
        places: int = 1,
        limits: Limits = HASTY,
        policy: Policy | None = None,
        record: Path | None = None,
        static: Path | None = None,
        tls=None,
        port: int = 0,
        batch: Batch | None = batch,
        thread: ModelThread | None = None,
        proxies: Sequence[Network] = (),
        speech: SpeechService | None = None,
        beside: Beside = nullcontext,
        personas: Personas | None = None,
    ) -> Running:
        service = Service(
            *(thread or model_thread(), batch, batch and describe(batch)),
            *(places, limits),
            *(record, proxies, speech or SpeechService(), personas),
        )
        app = make_app(service, policy or Policy(), static or page_folder())
        ports: list[int] = []
        server = make_server(
            *(app, service, "localhost", port, tls, ports.append), beside
        )
        running_in = threading.Thread(target=server.run)
        running_in.start()
        until = time.monotonic() + UP_S
        while not ports and time.monotonic() < until:
            time.sleep(0.005)

        def stop() -> None:
            server.should_exit = True
            running_in.join(UP_S)
            assert not running_in.is_alive(), "the server does not end"

        running.append(Running(service, ports[0], stop))
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture(scope="session")
def question() -> list[np.ndarray]:
    """A spoken question and as much silence as the answer takes, 80 ms a frame."""
    folder = Path(moshi_mlx.__file__).parent / "demo" / "questions"
    return list(moshi_mlx.audio.frames(folder / "planet.wav"))[:70]
