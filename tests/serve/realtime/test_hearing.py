"""How what a listening model notices becomes turns, items and words."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import numpy as np

from moshi_mlx.documents.words import Word
from moshi_mlx.engines.stt.batch import Marker
from moshi_mlx.engines.stt.events import Pauses, WordBegun
from moshi_mlx.serve.protocols.realtime.hearing import UserSide
from moshi_mlx.serve.protocols.realtime.items import Items
from moshi_mlx.serve.speech import Ears

SECOND = np.zeros(24000, np.float32)
VAD = {"type": "server_vad", "silence_duration_ms": 500}


class FakeEars:
    """Notices what it is told to notice."""

    pause_lengths_s = (0.5, 1.0, 2.0, 3.0)
    delay_s = 0.5

    def __init__(self) -> None:
        self.events: asyncio.Queue = asyncio.Queue()

    async def put(self, pcm: np.ndarray) -> None:
        pass

    async def flush(self, id: int) -> None:
        await self.events.put(Word("world", 0.6, 1.1))
        await self.events.put(Marker(id))

    async def restart(self) -> None:
        pass

    async def __aiter__(self):
        while (event := await self.events.get()) is not None:
            yield event


def told(
    detection: dict | None,
    act: Callable[[UserSide, FakeEars], Coroutine[Any, Any, None]],
) -> list[tuple[str, dict]]:
    """The events of a session in which ``act`` happens."""
    found: list[tuple[str, dict]] = []

    async def tell(kind: str, /, **fields: Any) -> None:
        found.append((kind, fields))

    async def main() -> None:
        ears = FakeEars()
        hearing = UserSide(tell, Items(tell), cast(Ears, ears), detection, 24000)
        running = asyncio.ensure_future(hearing.run())
        await act(hearing, ears)
        while not ears.events.empty():
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()

    asyncio.run(main())
    return found


async def speak(hearing: UserSide, ears: FakeEars) -> None:
    """Two words, and a pause after them."""
    await hearing.put(np.tile(SECOND, 3))
    for step in range(36):
        time_s = 0.08 * (step + 1)
        paused = 0.9 if step > 24 else 0.1
        await ears.events.put(Pauses(time_s, (paused, 0.0, 0.0, 0.0)))
        if step == 15:
            await ears.events.put(WordBegun("hello", 0.2))
        if step == 18:
            await ears.events.put(Word("hello", 0.2, 0.6))
            await ears.events.put(WordBegun("wor", 0.6))


def test_a_turn_begins_with_a_word_and_ends_with_a_pause():
    events = told(VAD, speak)
    kinds = [kind for kind, _ in events]
    item, transcription = "conversation.item", "input_audio_transcription"
    assert kinds == [
        "input_audio_buffer.speech_started",
        f"{item}.{transcription}.delta",
        f"{item}.{transcription}.delta",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        f"{item}.added",
        f"{item}.{transcription}.delta",
        f"{item}.done",
        f"{item}.{transcription}.completed",
    ]
    by_kind = dict(events)
    assert by_kind["input_audio_buffer.speech_started"]["audio_start_ms"] == 200
    assert by_kind["input_audio_buffer.speech_stopped"]["audio_end_ms"] == 2080
    deltas = [f["delta"] for kind, f in events if kind.endswith("delta")]
    assert deltas == ["hello", " wor", "ld"]
    assert by_kind[f"{item}.{transcription}.completed"]["transcript"] == "hello world"
    ids = {fields["item_id"] for _, fields in events if "item_id" in fields}
    assert len(ids) == 1


def test_the_client_alone_commits_where_turns_are_not_detected():
    async def commit(hearing: UserSide, ears: FakeEars) -> None:
        await speak(hearing, ears)
        while not ears.events.empty():
            await asyncio.sleep(0)
        await hearing.commit()

    events = told(None, commit)
    kinds = [kind.rpartition(".")[2] for kind, _ in events]
    assert kinds[:3] == ["delta", "delta", "committed"]
    assert kinds[-1] == "completed"
    assert events[-1][1]["transcript"] == "hello world"
    assert events[-1][1]["usage"] == {"type": "duration", "seconds": 3.0}


def test_the_next_item_names_the_one_before_it():
    async def twice(hearing: UserSide, ears: FakeEars) -> None:
        for _ in range(2):
            await hearing.put(SECOND)
            await hearing.commit()

    committed = [f for kind, f in told(None, twice) if kind.endswith("committed")]
    assert committed[0]["previous_item_id"] is None
    assert committed[1]["previous_item_id"] == committed[0]["item_id"]


async def caught_up(ears: FakeEars) -> None:
    while not ears.events.empty():
        await asyncio.sleep(0)
    await asyncio.sleep(0)


def times(events: list[tuple[str, dict]]) -> list[int]:
    keys = ("audio_start_ms", "audio_end_ms")
    return [fields[key] for _, fields in events for key in keys if key in fields]


def test_a_turn_ends_although_the_settings_are_sent_again_in_the_middle_of_it():
    async def again(hearing: UserSide, ears: FakeEars) -> None:
        await hearing.put(SECOND)
        for step in range(16):
            scores = (0.1, 0.0, 0.0, 0.0)
            await ears.events.put(Pauses(0.08 * (step + 1), scores))
        await ears.events.put(WordBegun("hello", 0.2))
        await caught_up(ears)
        hearing.detect(dict(VAD))
        await ears.events.put(Pauses(1.36, (0.9, 0.0, 0.0, 0.0)))

    assert times(told(VAD, again)) == [200, 1360]


def test_turns_are_found_and_timed_after_the_sound_was_cleared():
    async def cleared(hearing: UserSide, ears: FakeEars) -> None:
        await speak(hearing, ears)
        await caught_up(ears)
        await hearing.clear()
        await speak(hearing, ears)  # whose times begin anew

    assert times(told(VAD, cleared)) == [200, 2080, 3200, 5080]
