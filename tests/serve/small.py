"""A server's ears and voice of the small random models, on the model's thread."""

from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np

from moshi_mlx.engines.owner import model_thread
from moshi_mlx.engines.stt.batch import STTBatch
from moshi_mlx.engines.tts.batch import TTSBatch
from moshi_mlx.serve.lazy import Lazy
from moshi_mlx.serve.speech import SpeechService
from tests import listening, speech

VOICE = "voice_a.wav"  # of the voices in tests/data/tts


@cache
def _stt(rows: int) -> STTBatch:
    def make() -> STTBatch:
        stt = listening.listener()
        stt.owner = model_thread()
        mx.eval(stt.lm.parameters(), stt.mimi.parameters())
        return STTBatch(stt, rows)

    return model_thread().run(make)


@cache
def _tts(rows: int, prefix: bool) -> TTSBatch:
    def make() -> TTSBatch:
        tts = speech.speaker(speech.PREFIX if prefix else speech.TTS)
        tts.owner = model_thread()
        mx.eval(tts.lm.parameters(), tts.mimi.parameters())
        return TTSBatch(tts, rows)

    return model_thread().run(make)


def small(rows: int = 2, prefix: bool = False, **options: Any) -> SpeechService:
    """Both, with so many places each.

    Args:
        prefix: whether the voice continues recordings.
        options: of ``SpeechService``.
    """
    stt = Lazy("small-stt", lambda: _stt(rows))
    tts = Lazy("small-tts", lambda: _tts(rows, prefix))
    return SpeechService(model_thread(), stt, tts, **options)


async def hear(speech: SpeechService, pcm: np.ndarray) -> list:
    """What is noticed in a sound that comes in pieces."""
    async with await speech.listen(wait_s=20) as ears:
        for start in range(0, len(pcm), 3000):
            await ears.put(pcm[start : start + 3000])
        await ears.flush(5)
        await ears.end()
        return [event async for event in ears]


async def say(speech: SpeechService, text: str) -> np.ndarray:
    """The sound of a text that comes word by word."""
    async with await speech.speak(VOICE, wait_s=20) as voice:
        for word in text.split(" "):
            await voice.put(f"{word} ")
        await voice.finish()
        return np.concatenate([pcm async for pcm in voice])
