"""Ears and a voice that need no model, and a Wyoming port in front of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from wyoming.client import AsyncTcpClient

from moshi_mlx.documents.words import Word
from moshi_mlx.errors import ConfigError
from moshi_mlx.serve.protocols.wyoming.server import wyoming_server
from moshi_mlx.serve.protocols.wyoming.wire import Bounds
from moshi_mlx.serve.speech import SpeechService
from tests.serve.client import PATIENCE_S


class Live:
    sample_rate = 24000

    def __init__(self, speech: "FakeSpeech"):
        self._speech = speech
        self.given: asyncio.Queue = asyncio.Queue()
        speech.open.append(self)

    async def put(self, item) -> None:
        await self.given.put(item)

    async def end(self) -> None:
        await self.given.put(None)

    async def finish(self) -> None:
        await self.given.put(None)

    async def aclose(self) -> None:
        await asyncio.sleep(self._speech.closing_s)
        self._speech.open.remove(self)


class FakeEars(Live):
    """Writes a word for every second of sound."""

    async def __aiter__(self) -> AsyncIterator[Word]:
        heard = 0
        while (pcm := await self.given.get()) is not None:
            before, heard = heard, heard + len(pcm)
            for second in range(before // 24000, heard // 24000):
                yield Word(f"word{second}", second, second + 1.0)


class FakeVoice(Live):
    """Says a frame for every word, once it is whole."""

    async def __aiter__(self) -> AsyncIterator[np.ndarray]:
        text = ""
        while (piece := await self.given.get()) is not None:
            *whole, text = (text + piece).split(" ")
            for word in whole:
                self._speech.said.append(word)
                yield np.full(1920, 0.5, np.float32)
        self._speech.said.append(text)
        yield np.full(1920, 0.5, np.float32)


@dataclass
class FakeOffer:
    name: str
    languages: tuple[str, ...] = ("en",)
    voices: tuple[str, ...] = ("anna", "bob")


@dataclass
class FakeSpeech:
    hears: FakeOffer = field(default_factory=lambda: FakeOffer("ear"))
    says: FakeOffer = field(default_factory=lambda: FakeOffer("mouth"))
    open: list = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    closing_s: float = 0.0  # until a place is free
    tts = None

    async def listen(self, _wait_s: float) -> FakeEars:
        return FakeEars(self)

    async def speak(self, voice: str | None, _wait_s: float) -> FakeVoice:
        if voice not in (None, "anna", "bob"):
            raise ConfigError(f"there is no voice {voice!r}: choose anna or bob.")
        return FakeVoice(self)


def served(speech: FakeSpeech, bounds: Bounds | None = None):
    return wyoming_server(
        cast(SpeechService, speech), port=0, bounds=bounds or Bounds()
    )


@asynccontextmanager
async def connected(speech: FakeSpeech, bounds: Bounds | None = None):
    async with served(speech, bounds) as port:
        client = AsyncTcpClient("127.0.0.1", port, read_timeout=PATIENCE_S)
        async with client:
            yield client


async def settled(speech: FakeSpeech) -> None:
    for _ in range(200):
        if not speech.open:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a place was not given back")
