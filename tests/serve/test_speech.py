"""Ears and voices for protocols: rows of the models, used from asyncio."""

import asyncio

import numpy as np
import pytest

from moshi_mlx.engines.stt import Pauses, Word
from moshi_mlx.engines.tts import TTSModel
from moshi_mlx.errors import AudioError, ConfigError, NoPlace, NotServed
from moshi_mlx.serve import live_stream
from moshi_mlx.serve.ears import Flushed
from moshi_mlx.serve.speech import SpeechService
from tests.listening import noise
from tests.serve.small import VOICE, hear, say, small
from tests.speech import VOICES

TEXT = "hello there how are you today in paris"


def test_eight_clients_get_what_they_would_get_alone():
    speech = small(rows=4)
    sounds = [noise(1.0 + 0.2 * i, i) for i in range(4)]
    texts = ["hello there", "how are you", "you are in paris today", TEXT]

    async def everybody() -> tuple[list, list, list, list]:
        alone = [await hear(speech, pcm) for pcm in sounds]
        said = [await say(speech, text) for text in texts]
        ears = [hear(speech, pcm) for pcm in sounds]
        voices = [say(speech, text) for text in texts]
        together = await asyncio.gather(*ears, *voices)
        return alone, said, together[:4], together[4:]

    alone, said, heard, spoken = asyncio.run(everybody())
    assert heard == alone
    assert Flushed(5) in heard[0] and any(isinstance(e, Word) for e in heard[0])
    assert sum(isinstance(e, Pauses) for e in heard[0]) == 13
    for mine, whole in zip(spoken, said, strict=True):
        np.testing.assert_allclose(mine, whole, atol=1e-5)
    assert len(said[0]) > 0


def test_a_voice_says_what_the_model_says_with_the_words_and_their_times():
    speech = small()

    async def talk():
        spoken = [s async for s in speech.spoken(TEXT, VOICE)]
        batch = await speech.tts.get()  # type: ignore[union-attr]
        assert isinstance(batch.tts, TTSModel)
        return spoken, await batch.tts.asay(TEXT, VOICES["a"])

    spoken, whole = asyncio.run(talk())
    pcm = np.concatenate([s.pcm for s in spoken if s.pcm is not None])
    np.testing.assert_allclose(pcm, whole.pcm, atol=1e-5)
    assert [word for s in spoken for word in s.words] == whole.words


def test_places_come_back_at_once_when_a_client_hangs_up():
    speech = small(rows=1)

    async def come_and_go() -> tuple[int, int]:
        for _ in range(8):
            ears = await speech.listen()
            await ears.put(noise(10.0))  # still waits when it hangs up
            with pytest.raises(NoPlace):
                await speech.listen()
            voice = await speech.speak(VOICE)
            await voice.put(TEXT)
            with pytest.raises(NoPlace):
                await speech.speak(VOICE)
            await ears.aclose()
            await voice.aclose()
        return (await speech.stt.get()).taken, (await speech.tts.get()).taken  # type: ignore[union-attr]

    assert asyncio.run(come_and_go()) == (0, 0)
    assert speech.heard.open == speech.said.open == 0


def test_one_clients_wrong_text_or_sound_is_no_matter_to_others():
    speech = small(rows=3)

    async def talk() -> float:
        whole = await say(speech, TEXT)
        async with await speech.speak(VOICE) as bad, await speech.listen() as ears:
            await bad.put("<break time='x'/> hello ")
            with pytest.raises(AudioError, match="not all numbers"):
                await ears.put(np.full(10, np.nan, np.float32))
            again = await say(speech, TEXT)
            with pytest.raises(ConfigError):
                [pcm async for pcm in bad]
        return float(np.abs(again - whole).max())

    assert asyncio.run(talk()) < 1e-5


def test_a_speech_that_nobody_reads_stops_and_goes_on(monkeypatch):
    speech = small()

    async def talk(slow: bool) -> int:
        async with await speech.speak(VOICE) as voice:
            await voice.put(f"{TEXT} " * 5)
            await voice.finish()
            if slow:
                await asyncio.sleep(0.3)
            return sum([1 async for _ in voice])

    monkeypatch.setattr(live_stream, "UNREAD", 8)
    assert asyncio.run(talk(True)) == asyncio.run(talk(False)) > 30


def test_what_is_not_served_is_said_in_a_sentence():
    async def ask() -> None:
        with pytest.raises(NotServed, match="start it with --stt"):
            await SpeechService().listen()
        with pytest.raises(NotServed, match="start it with --tts"):
            await SpeechService().speak()

    asyncio.run(ask())


def test_the_usual_voice_is_the_models_own_and_no_voices_are_said(monkeypatch):
    speech = small()

    async def ask() -> str:
        return await speech.voices.usual()

    assert asyncio.run(ask()) == "voice_a.wav"
    tts = speech.tts.load().tts  # type: ignore[union-attr]
    monkeypatch.setattr(tts, "usual_voice", "voice_b.wav")
    assert asyncio.run(ask()) == "voice_b.wav"
    speech.voices.known = []
    monkeypatch.setattr(tts, "voices", list)
    with pytest.raises(NotServed, match="start the server with --voice-repo"):
        asyncio.run(ask())


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret", "hf://a/b/c.wav"])
def test_a_voice_is_a_name_and_no_path(name: str):
    async def ask() -> None:
        with pytest.raises(NotServed, match="by its name"):
            await small().speak(name)

    asyncio.run(ask())
