"""How long a server's clients wait: for the first sound, and for the final word.

Clients are rows of the batches, as protocols open them; the network is not measured.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from ..audio.framing import FRAME, FRAME_MS
from ..audio.samples import Pcm
from ..errors import NoPlace
from ..utils.trace import percentile
from .ears import Flushed
from .speech import SpeechService

SENTENCE = "good morning it is nice to hear from you again"
ROUNDS = 5  # of each number of clients


@dataclass(frozen=True)
class Wait:
    """What clients that came together waited for.

    Attributes:
        what: "first audio" or "final word".
        clients: how many asked at once.
        refused: those for whom there was no place, in all rounds.
        waits_s: of the others, one for each client and round.
    """

    what: str
    clients: int
    refused: int
    waits_s: Sequence[float]

    def to_json(self) -> dict[str, Any]:
        """Milliseconds; None where all were refused."""
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


async def waits(
    speech: SpeechService, counts: Sequence[int], sound: Pcm, rounds: int = ROUNDS
) -> list[Wait]:
    """What so many clients at once wait, for each of ``counts``.

    Raises: what loading a model raises.
    """
    asked: dict[str, Callable[[], Awaitable[float]]] = {}
    if speech.tts is not None:
        asked["first audio"] = lambda: first_audio(speech)
        await first_audio(speech)  # loads the model and the voice
    if speech.stt is not None:
        asked["final word"] = lambda: final_word(speech, sound)
        await speech.listening()
    found = []
    for what, ask in asked.items():
        for clients in counts:
            together = [await _together(ask, clients) for _ in range(rounds)]
            told = [wait for each in together for wait in each]
            taken = [wait for wait in told if wait is not None]
            found.append(Wait(what, clients, len(told) - len(taken), taken))
    return found


async def _together(
    ask: Callable[[], Awaitable[float]], clients: int
) -> list[float | None]:
    async def one() -> float | None:
        try:
            return await ask()
        except NoPlace:
            return None

    return list(await asyncio.gather(*(one() for _ in range(clients))))
