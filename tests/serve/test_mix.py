"""Clients of every kind at once: each gets what it would get alone."""

import asyncio
from typing import Any

import numpy as np

from moshi_mlx.serve.speech import SpeechService
from tests.listening import noise
from tests.serve.client import joined
from tests.serve.small import hear, say, small

FRAMES = 24  # of each conversation
TEXTS = ("hello there", "how are you today in paris")
SOUNDS = tuple(noise(1.0 + 0.4 * i, i) for i in range(2))
FILES = tuple(noise(1.5 + 0.5 * i, 5 + i) for i in range(2))


async def talk(url: str, frames: list[np.ndarray]) -> tuple[str, np.ndarray]:
    async with joined(url) as client:
        said = await client.converse(frames)
        return client.text, np.concatenate(said)


async def read(speech: SpeechService, sound: np.ndarray) -> list[Any]:
    return (await speech.transcribe(sound)).words


def test_eight_clients_of_four_kinds_get_what_each_would_get_alone(serve, question):
    speech = small(rows=2)
    server = serve(places=2, speech=speech)
    frames = question[10 : 10 + FRAMES]

    def asked() -> list[Any]:
        urls = [server.chat(f"format=pcm&seed={seed}") for seed in (1, 2)]
        talks = [talk(url, frames[i * 3 :]) for i, url in enumerate(urls)]
        heard = [hear(speech, sound) for sound in SOUNDS]
        spoken = [say(speech, text) for text in TEXTS]
        return [*talks, *heard, *spoken, *(read(speech, file) for file in FILES)]

    async def everybody() -> tuple[list[Any], list[Any]]:
        alone = [await one for one in asked()]
        return alone, list(await asyncio.gather(*asked()))

    alone, together = asyncio.run(everybody())
    for mine, whole in zip(together[:2], alone[:2], strict=True):
        assert mine[0] == whole[0] and len(whole[1]) > 0
        np.testing.assert_allclose(mine[1], whole[1], atol=1e-4)
    assert together[2:4] == alone[2:4] and all(alone[2:4])
    for mine, whole in zip(together[4:6], alone[4:6], strict=True):
        np.testing.assert_allclose(mine, whole, atol=1e-5)
    assert together[6:] == alone[6:] and all(alone[6:])
