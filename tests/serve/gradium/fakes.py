"""A socket, a service, ears and a voice without a server or a model."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from moshi_mlx.documents.words import Word
from moshi_mlx.engines.stt.batch import Marker
from moshi_mlx.engines.tts.live_voice import Spoken
from moshi_mlx.serve.service import Service

FRAME = np.full(1920, 0.25, np.float32)


class FakeSocket:
    """What a client sends, and what it gets: ``sent``, then ``code``."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {}
        self.coming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.code: int | None = None

    async def accept(self) -> None: ...

    async def receive(self) -> dict[str, Any]:
        return await self.coming.get()

    async def send_text(self, text: str) -> None:
        self.sent.append(json.loads(text))

    async def close(self, code: int) -> None:
        self.code = code

    def tell(self, kind: str, **fields: Any) -> None:
        text = json.dumps({"type": kind, **fields})
        self.coming.put_nowait({"type": "websocket.receive", "text": text})

    def kinds(self, id: str | None = None) -> list[str]:
        return [m["type"] for m in self.sent if m.get("client_req_id") == id]


class FakeEars:
    """Notices what it is told to notice, and each flush at once."""

    sample_rate, delay_s, pause_lengths_s = 24000, 0.48, (0.5, 1.0)

    def __init__(self) -> None:
        self.events: asyncio.Queue[Any] = asyncio.Queue()
        self.samples = 0

    async def __aenter__(self) -> "FakeEars":
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def put(self, pcm: np.ndarray) -> None:
        self.samples += len(pcm)

    async def flush(self, id: int) -> None:
        self.events.put_nowait(Marker(id))

    async def end(self) -> None:
        self.events.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (event := await self.events.get()) is not None:
            yield event


class FakeVoice:
    """Says a frame for each word of a finished text."""

    sample_rate = 24000

    def __init__(self) -> None:
        self.text = ""
        self.finished = asyncio.Event()

    async def __aenter__(self) -> "FakeVoice":
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def put(self, text: str) -> None:
        self.text += text

    async def finish(self) -> None:
        self.finished.set()

    async def pieces(self) -> AsyncIterator[Spoken]:
        await self.finished.wait()
        for n, word in enumerate(self.text.split()):
            yield Spoken(FRAME, [Word(word, 0.08 * n, 0.08 * n + 0.05046)])

    async def __aiter__(self) -> AsyncIterator[np.ndarray]:
        async for spoken in self.pieces():
            assert spoken.pcm is not None
            yield spoken.pcm


class FakeSpeech:
    """Gives the same ears and a new voice to everybody, and remembers who asked."""

    hears, says = SimpleNamespace(name="ears"), SimpleNamespace(name="voice")
    stt = tts = object()

    def __init__(self) -> None:
        self.ears, self.voices = FakeEars(), [FakeVoice() for _ in range(20)]
        self.asked: list[tuple[str | None, float]] = []
        self.waited: list[float] = []

    async def listen(self, wait_s: float) -> FakeEars:
        self.waited.append(wait_s)
        return self.ears

    async def speak(self, name: str | None, wait_s: float) -> FakeVoice:
        self.asked.append((name, wait_s))
        return self.voices[len(self.asked) - 1]


def fake_service(speech: Any = None, read_s: float = 5.0) -> Service:
    fake = SimpleNamespace(
        speech=speech or FakeSpeech(),
        limits=SimpleNamespace(read_s=read_s),
        closing=asyncio.Event(),
    )
    return cast(Service, fake)


Serve = Callable[[Service, Any], Awaitable[None]]
Act = Callable[[FakeSocket, Service], Awaitable[None]]


async def settled() -> None:
    """Wait until nothing happens any more."""
    for _ in range(60):
        await asyncio.sleep(0)


def served(serve: Serve, act: Act, speech: Any = None, **limits: float) -> FakeSocket:
    """The socket after ``act``, which must have ended it."""

    async def main() -> FakeSocket:
        socket, service = FakeSocket(), fake_service(speech, **limits)
        serving = asyncio.ensure_future(serve(service, socket))
        await act(socket, service)
        await asyncio.wait_for(serving, 30)
        return socket

    return asyncio.run(main())
