"""How long a server's clients wait: for a reply, the first sound and the final word.

Clients are rows of the batches, opened as by protocols; the network is not measured.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from ..audio.framing import FRAME, FRAME_MS
from ..audio.samples import Pcm
from ..engines.duplex.batch import Batch
from ..engines.duplex.session import DuplexSession
from ..engines.owner import model_thread
from ..errors import NoPlace
from ..utils.trace import percentile
from .ears import Flushed
from .speech import SpeechService

SENTENCE = "good morning it is nice to hear from you again"
ROUNDS = 5  # for each number of clients
_PATIENCE_S = 10.0  # for the last replies


@dataclass(frozen=True)
class Wait:
    """The waiting times of clients that came together.

    Attributes:
        what: "reply", "first audio" or "final word".
        clients: how many asked at once.
        refused: how many found no place, in all rounds.
        waits_s: of the others: one for each client and round; for "reply", one for each
            frame.
    """

    what: str
    clients: int
    refused: int
    waits_s: Sequence[float]

    def to_json(self) -> dict[str, Any]:
        """Milliseconds; None if all were refused."""
        p50, p95 = (
            round(1000 * percentile(self.waits_s, percent), 1) if self.waits_s else None
            for percent in (50, 95)
        )
        about = {"what": self.what, "clients": self.clients, "refused": self.refused}
        return {**about, "p50_ms": p50, "p95_ms": p95}


async def first_audio(speech: SpeechService) -> float:
    """Seconds from a text to its first sound."""
    async with await speech.speak() as voice:
        began = perf_counter()
        await voice.put(SENTENCE)
        await voice.finish()
        async for _ in voice:
            return perf_counter() - began
    return float("inf")


async def final_word(speech: SpeechService, sound: Pcm) -> float:
    """Seconds from the end of a sound, sent as it is spoken, to its last word.

    Args:
        sound: float32 ``[S]`` at 24 kHz.
    """
    async with await speech.listen() as ears:
        began = perf_counter()
        for number, at in enumerate(range(0, len(sound), FRAME), 1):
            await ears.put(sound[at : at + FRAME])
            await asyncio.sleep(began + number * FRAME_MS / 1000 - perf_counter())
        ended = perf_counter()
        await ears.flush(1)
        async for event in ears:
            if isinstance(event, Flushed):
                break
        return perf_counter() - ended


async def replies(batch: Batch, sound: Pcm) -> list[float]:
    """Seconds from each frame of a conversation, sent as it is spoken, to its reply.

    Args:
        sound: float32 ``[S]`` at 24 kHz.

    Raises: NoPlace if all rows are taken.
    """

    def opened() -> DuplexSession:
        if batch.free == 0:
            raise NoPlace("all places to talk are taken.")
        return batch.open()

    session = await batch.moshi.owner.arun(opened)
    lags: list[float] = []
    line = model_thread().open(
        *(lambda: session, lambda answer: lags.append(answer.lag_s)),
        limit_ms=60_000,
        together=batch.step,
    )
    frames = [sound[at : at + FRAME] for at in range(0, len(sound) - FRAME + 1, FRAME)]
    began = perf_counter()
    try:
        for number, frame in enumerate(frames, 1):
            line.put(frame)
            await asyncio.sleep(began + number * FRAME_MS / 1000 - perf_counter())
        until = perf_counter() + _PATIENCE_S
        while len(lags) < len(frames) and perf_counter() < until:
            await asyncio.sleep(0.01)
        return lags
    finally:
        line.close()
        await asyncio.shield(asyncio.ensure_future(session.aclose()))


async def waits(
    speech: SpeechService,
    counts: Sequence[int],
    sound: Pcm,
    rounds: int = ROUNDS,
    batch: Batch | None = None,
) -> list[Wait]:
    """The waiting times of that many clients at once, for each of ``counts``.

    Args:
        batch: conversations. They are measured too, and one of them continues while the
            other clients are measured.

    Raises: the errors of loading a model.
    """
    asked: dict[str, Callable[[], Awaitable[list[float]]]] = {}
    if speech.tts is not None:
        await first_audio(speech)  # loads the model and the voice
    if speech.stt is not None:
        await speech.listening()
    if batch is not None:
        asked["reply"] = lambda: replies(batch, sound)
    if speech.tts is not None:
        asked["first audio"] = lambda: _once(first_audio(speech))
    if speech.stt is not None:
        asked["final word"] = lambda: _once(final_word(speech, sound))
    found = []
    for what, ask in asked.items():
        beside = batch if what != "reply" else None
        async with _talking(beside, sound):
            for clients in counts:
                together = [await _together(ask, clients) for _ in range(rounds)]
                told = [wait for each in together for wait in each]
                taken = [wait for wait in told if wait is not None]
                waited = [seconds for wait in taken for seconds in wait]
                found.append(Wait(what, clients, len(told) - len(taken), waited))
    return found


async def _once(wait: Awaitable[float]) -> list[float]:
    return [await wait]


@asynccontextmanager
async def _talking(batch: Batch | None, sound: Pcm) -> AsyncIterator[None]:
    """Keep a conversation running meanwhile, if there is a model for it."""

    async def talk() -> None:
        while batch is not None:
            await replies(batch, sound)

    talking = asyncio.ensure_future(talk())
    try:
        yield
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)


async def _together(
    ask: Callable[[], Awaitable[list[float]]], clients: int
) -> list[list[float] | None]:
    async def one() -> list[float] | None:
        try:
            return await ask()
        except NoPlace:
            return None

    return list(await asyncio.gather(*(one() for _ in range(clients))))
