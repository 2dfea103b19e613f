"""NVIDIA's query parameters, and what a page is told of personas."""

import asyncio
import json
import urllib.parse
import urllib.request
from typing import ClassVar

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.engines.duplex.engine import Moshi
from moshi_mlx.engines.owner import model_thread
from moshi_mlx.errors import ConfigError, ProtocolError
from moshi_mlx.serve.personas import MAX_TEXT, Personas, personas_of
from moshi_mlx.serve.protocols.moshi.settings import read_settings
from moshi_mlx.serve.protocols.realtime.talking import MoshiTalk
from moshi_mlx.serve.service import Service, load_batch
from tests.persona import personaplex_folder
from tests.serve.client import AUDIO, HANDSHAKE, arrived


@pytest.fixture(scope="module")
def moshi(tmp_path_factory: pytest.TempPathFactory) -> Moshi:
    return moshi_mlx.load(personaplex_folder(tmp_path_factory.mktemp("s") / "tiny"))


def test_the_query_names_persona_and_voice():
    asked = {"text_prompt": "You teach.", "voice_prompt": "NATF0.pt", "seed": "7"}
    settings = read_settings(asked)
    assert (settings.persona, settings.voice) == ("You teach.", "NATF0.pt")
    assert settings.wishes.seed == 7 and settings.seeded
    assert read_settings({"text_prompt": ""}).persona == "", "it may be empty"
    assert read_settings({}).persona is None
    with pytest.raises(ProtocolError, match=f"use up to {MAX_TEXT}"):
        read_settings({"text_prompt": "x" * (MAX_TEXT + 1)})


def test_a_client_names_a_voice_of_the_model_and_never_a_file(moshi, tmp_path):
    (tmp_path / "mine.wav").write_bytes(b"RIFF")
    personas = Personas(moshi, "You teach.")
    for voice in ("NATF0.pt", str(tmp_path / "mine.wav"), "../../etc/passwd", "a/b.pt"):
        with pytest.raises(ProtocolError, match="is unknown: there are none"):
            personas.start("You sing.", voice)
    with pytest.raises(ProtocolError, match="too long for this model"):
        personas.start("You teach. " * 60, None)
    assert personas.start(None, None) is not None
    assert personas.start("", "") is not None


def test_the_page_and_the_prompt_go_over_the_wire(moshi, serve, tmp_path):
    """A client that asks for another persona hears something else, after the same
    handshake; one that asks for an unknown voice is told in one sentence."""
    batch = load_batch(model_thread(), lambda: moshi, 1)
    running = serve(batch=batch, personas=Personas(moshi, "You teach."))
    with urllib.request.urlopen(running.url("/api/build_info")) as answer:
        told = json.load(answer)["persona"]
    assert told == {"text": "You teach.", "voices": []}

    async def heard(**asked: str) -> tuple[bytes, list[str]]:
        query = urllib.parse.urlencode(
            {"format": "pcm", "seed": 1, "text_temperature": 0, **asked}
        )
        async with arrived(running.chat(query)) as client:
            if "voice_prompt" in asked:
                await client.until_closed()
                return b"", client.errors
            await client.until(HANDSHAKE)
            for _ in range(6):
                await client.say(np.full(1920, 0.1, np.float32))
                await client.until(AUDIO)
            return np.concatenate(client.pcm[:6]).tobytes(), client.errors

    first, again = asyncio.run(heard()), asyncio.run(heard(text_prompt="You teach."))
    other = asyncio.run(heard(text_prompt="You sing songs."))
    assert first == again != other
    _, errors = asyncio.run(heard(voice_prompt="NATX.pt"))
    assert errors == ["voice_prompt='NATX' is unknown: there are none."]


def test_a_server_s_moshi_says_its_words_first(serve, batch):
    """Of a model that takes no persona, whose page is offered none."""
    personas = personas_of(batch, None, None, "good morning.")
    assert personas is not None and personas.about is None
    running = serve(personas=personas)
    with urllib.request.urlopen(running.url("/api/build_info")) as answer:
        assert "persona" not in json.load(answer)

    async def said(query: str) -> str:
        async with arrived(running.chat(query)) as client:
            await client.until(HANDSHAKE)
            for _ in range(10):
                await client.say(np.full(1920, 0.1, np.float32))
                await client.until(AUDIO)
            return client.text.strip()

    for asked in ("format=pcm&seed=1", "format=pcm&text_prompt=x&voice_prompt=y"):
        assert asyncio.run(said(asked)).startswith("good morning.")
    assert personas_of(batch, None, None) is None
    with pytest.raises(ConfigError, match="--say-first need a --model"):
        personas_of(None, None, None, "hello")


def test_a_realtime_client_s_instructions_are_the_persona(moshi):
    """And its voice, where the model knows it: OpenAI's default is the server's."""
    asked = []

    class Noted(Personas):
        voices: ClassVar = ["NATF2"]  # type: ignore[assignment]

        def start(self, text=None, voice=None):
            asked.append((text, voice))

    async def begin(instructions: str, voice: str) -> None:
        service = Service(model_thread(), personas=Noted(moshi))
        MoshiTalk(service, "", instructions, voice)._beginning()

    for given in (("", "marin"), ("You teach.", "NATF2"), ("x" * 9000, "")):
        asyncio.run(begin(*given))
    wanted = [(None, None), ("You teach.", "NATF2"), ("x" * MAX_TEXT, None)]
    assert asked == wanted
