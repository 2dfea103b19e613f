"""A transcript and a speech, by themselves and asked for: no model."""

import asyncio
import logging
from typing import cast

import numpy as np
import pytest
from wyoming import asr, tts
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event, Eventable

from moshi_mlx.errors import ProtocolError
from moshi_mlx.serve.protocols.wyoming.requests import Synthesis, Transcription
from moshi_mlx.serve.protocols.wyoming.wire import Bounds
from moshi_mlx.serve.speech import Ears, Voice
from tests.serve.wyoming.fakes import FakeEars, FakeSpeech, Live, connected
from tests.serve.wyoming.reading import until


class Counting(FakeEars):
    """Remembers the length of each piece of sound."""

    lengths: list[int]

    async def put(self, item) -> None:
        self.lengths.append(len(item))
        await super().put(item)


class Sounds(Live):
    """Says two frames, louder than can be, whatever the text."""

    async def __aiter__(self):
        await self.given.get()
        for level in (2.0, -0.25):
            yield np.full(1920, level, np.float32)


def spoken(text: str) -> list[Event]:
    sent: list[Event] = []

    async def send(event: Eventable) -> None:
        sent.append(event.event())

    async def main() -> None:
        voice = cast(Voice, Sounds(FakeSpeech()))
        speech = Synthesis(voice, send, Bounds(), streamed=False)
        await speech.take(text)
        await speech.finish()
        await speech.close()

    asyncio.run(main())
    return sent


def test_a_speech_is_sixteen_bits_at_its_times():
    start, *chunks, stop = spoken("Hello.")
    shape = {"rate": 24000, "width": 2, "channels": 1}
    assert start.data == {**shape, "timestamp": 0} and stop.type == "audio-stop"
    assert [chunk.data for chunk in chunks] == [
        {**shape, "timestamp": 0},
        {**shape, "timestamp": 80},
    ]
    levels = [np.frombuffer(AudioChunk.from_event(c).audio, "<i2") for c in chunks]
    assert [(level.size, set(level.tolist())) for level in levels] == [
        (1920, {32767}),
        (1920, {-8192}),
    ]


def test_a_text_of_blanks_is_a_reply_without_sound():
    start, stop = spoken(" \n")
    assert (start.type, stop.type) == ("audio-start", "audio-stop")
    assert start.data["width"] == 2 and start.data["channels"] == 1


def test_sound_reaches_the_model_in_short_pieces_up_to_the_limit():
    ears = Counting(FakeSpeech())
    ears.lengths = []

    async def main() -> None:
        async def send(_: Eventable) -> None:
            pass

        shape = {"rate": 24000, "width": 2, "channels": 1}
        sound = Transcription(cast(Ears, ears), send, Bounds(heard_s=1.0), shape)
        await sound.take(bytes(40_000))
        await sound.take(bytes(8_000))  # the second is full
        assert ears.lengths == [8192, 8192, 3616, 4000]
        with pytest.raises(ProtocolError, match="longer than 1 s"):
            await sound.take(bytes(2))
        await sound.close()

    asyncio.run(main())


def test_a_transcript_says_the_language_that_was_asked_for():
    async def main() -> None:
        async with connected(FakeSpeech()) as client:
            await client.write_event(asr.Transcribe(language="de").event())
            await client.write_event(AudioStart(16000, 2, 1).event())
            await client.write_event(AudioStop().event())
            (told,) = [
                event
                for event in await until(client, "transcript-stop")
                if event.type == "transcript"
            ]
            assert told.data == {"text": "", "language": "de"}

    asyncio.run(main())


def test_a_streamed_text_is_spoken_without_being_repeated_whole():
    speech = FakeSpeech()

    async def main() -> None:
        async with connected(speech) as client:
            await client.write_event(tts.SynthesizeStart().event())
            await client.write_event(tts.SynthesizeChunk("Good day.").event())
            await client.write_event(tts.SynthesizeStop().event())
            await until(client, "synthesize-stopped")

    asyncio.run(main())
    assert speech.said == ["Good", "day."]


@pytest.mark.parametrize("error", [ProtocolError("no."), RuntimeError("secret")])
def test_only_the_server_s_own_faults_are_errors_in_the_log(caplog, error: Exception):
    class Broken(FakeSpeech):
        async def listen(self, _wait_s: float):
            raise error

    async def main() -> str:
        async with connected(Broken()) as client:
            await client.write_event(AudioStart(16000, 2, 1).event())
            return (await until(client, "error"))[-1].data["text"]

    ours = isinstance(error, RuntimeError)
    with caplog.at_level(logging.INFO, "moshi_mlx"):
        told = asyncio.run(main())
    assert told == ("the server failed: see its log." if ours else "no.")
    (record,) = [r for r in caplog.records if "a Wyoming client failed" in r.msg]
    assert record.levelno == (logging.ERROR if ours else logging.INFO)
    assert bool(record.exc_info) == ours


def test_a_description_costs_its_client_more_than_its_bytes(monkeypatch):
    costs: list[int] = []

    class Free:
        def __init__(self, *_: object, **__: object):
            pass

        def owed_s(self, cost: int) -> float:
            costs.append(cost)
            return 0.0

    monkeypatch.setattr("moshi_mlx.serve.protocols.wyoming.visits.Inflow", Free)

    async def main() -> None:
        async with connected(FakeSpeech()) as client:
            for kind in ("alike", "describe", "ping"):
                await client.write_event(Event(kind))
            await until(client, "pong")

    asyncio.run(main())
    before, described, after = costs
    assert max(before, after) < 200 and 65_536 < described < 65_736


def test_a_client_may_be_silent_while_it_waits_for_the_model():
    class Slow(FakeSpeech):
        async def speak(self, voice: str | None, wait_s: float):
            await asyncio.sleep(0.3)
            return await super().speak(voice, wait_s)

    async def main() -> None:
        async with connected(Slow(), Bounds(idle_s=0.1)) as client:
            await client.write_event(tts.Synthesize("Hello.").event())
            await until(client, "audio-stop")

    asyncio.run(main())
