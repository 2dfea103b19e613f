"""A transcript and a speech by themselves: no port, no model."""

import asyncio
from typing import cast

import numpy as np
import pytest
from wyoming.audio import AudioChunk
from wyoming.event import Event, Eventable

from moshi_mlx.errors import ProtocolError
from moshi_mlx.serve.protocols.wyoming.requests import Synthesis, Transcription
from moshi_mlx.serve.protocols.wyoming.wire import Bounds
from moshi_mlx.serve.speech import Ears, Voice
from tests.serve.wyoming.fakes import FakeEars, FakeSpeech, Live


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
