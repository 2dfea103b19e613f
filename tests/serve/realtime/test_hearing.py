"""How what a listening model notices becomes turns, items and words."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import numpy as np
import pytest

from moshi_mlx.documents.words import Word
from moshi_mlx.engines.stt.batch import Marker
from moshi_mlx.engines.stt.events import Pauses, WordBegun
from moshi_mlx.serve.protocols.realtime.hearing import UserSide
from moshi_mlx.serve.protocols.realtime.items import Items
from moshi_mlx.serve.protocols.realtime.messages import BadEvent
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
    act: Callable[[UserSide, Any], Coroutine[Any, Any, None]],
    make: Callable[[], FakeEars | None] = FakeEars,
) -> list[tuple[str, dict]]:
    """The events of a session in which ``act`` happens, with the ears that are made."""
    found: list[tuple[str, dict]] = []

    async def tell(kind: str, /, **fields: Any) -> None:
        found.append((kind, fields))

    async def main() -> None:
        ears = make()
        hearing = UserSide(tell, Items(tell), cast(Ears, ears), detection, 24000)
        running = asyncio.ensure_future(hearing.run())
        await act(hearing, ears)
        if ears is not None:
            await caught_up(ears)
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


class SlowEars(FakeEars):
    """Says that it has read up to a commit when it is told to say so."""

    async def flush(self, id: int) -> None:
        pass


def test_an_item_is_complete_when_the_model_has_read_up_to_its_own_commit():
    counts: list[int] = []

    async def three(hearing: UserSide, ears: SlowEars) -> None:
        for word in ("one", "two", "three"):
            await hearing.put(SECOND)
            await hearing.commit()
            await ears.events.put(WordBegun(word, 0.2))
        for reached in (0, 1, 3, 3):
            await ears.events.put(Marker(reached))
            await caught_up(ears)
            counts.append(len(hearing._waiting))

    events = told(None, three, SlowEars)
    assert counts == [3, 2, 0, 0]
    done = [f["transcript"] for k, f in events if k.endswith("transcription.completed")]
    assert done == ["one two three", "", ""]  # words belong to the oldest open item


def test_less_than_a_tenth_of_a_second_is_not_committed():
    words: list[str] = []

    async def short(hearing: UserSide, _: FakeEars) -> None:
        await hearing.put(SECOND[:2399])
        with pytest.raises(BadEvent) as refused:
            await hearing.commit()
        words.append(str(refused.value))
        await hearing.put(SECOND[:1])
        await hearing.commit()
        with pytest.raises(BadEvent):
            await hearing.commit()

    events = told(None, short)
    assert "less than 100 ms of sound" in words[0]
    assert [k for k, _ in events if k.endswith("committed")] == [
        "input_audio_buffer.committed"
    ]
    assert events[-1][1]["usage"]["seconds"] == 0.1


def test_turns_are_found_by_loudness_where_no_model_listens():
    loud = np.tile(np.array([0.5, -0.5], np.float32), 960)  # 80 ms

    async def twice(hearing: UserSide, _: None) -> None:
        for _turn in range(2):
            for _frame in range(5):
                await hearing.put(loud)
            await hearing.put(SECOND)

    events = told(VAD, twice, lambda: None)
    kinds = [kind.rpartition(".")[2] for kind, _ in events]
    once = ["speech_started", "speech_stopped", "committed", "added", "done"]
    assert kinds == 2 * once
    assert times(events) == [240, 1400, 1640, 2800]


def test_a_turn_that_was_found_by_loudness_ends_when_it_is_told_to():
    async def ended(hearing: UserSide, _: None) -> None:
        for _turn in range(2):
            await hearing.put(np.full(3 * 1920, 0.5, np.float32))
            await hearing.end_turn()
            await hearing.end_turn()  # no turn is open

    assert times(told(VAD, ended, lambda: None)) == [240, 240, 480, 480]


def test_a_turn_that_goes_on_under_other_settings_is_timed_from_the_clearing():
    async def changed(hearing: UserSide, ears: FakeEars) -> None:
        await hearing.put(np.tile(SECOND, 10))
        await hearing.clear()
        await hearing.put(np.tile(SECOND, 3))
        await ears.events.put(WordBegun("hello", 0.2))
        await ears.events.put(Pauses(0.96, (0.1, 0.0, 0.0, 0.0)))
        await caught_up(ears)
        hearing.detect({**VAD, "silence_duration_ms": 900})
        for step in range(13, 36):
            await ears.events.put(Pauses(0.08 * step, (0.0, 0.9, 0.0, 0.0)))

    (start, end) = times(told(VAD, changed))
    assert start == 10_200 and 11_040 <= end <= 12_000
