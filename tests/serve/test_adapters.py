"""Each client chooses one of a model's adapters, or none."""

import asyncio
import json
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.cli.adapters import GivenAdapters, read_adapters
from moshi_mlx.engines.duplex.engine import Moshi
from moshi_mlx.engines.owner import model_thread
from moshi_mlx.errors import ConfigError
from moshi_mlx.serve.protocols.realtime.talking import MoshiTalk
from moshi_mlx.serve.service import load_batch
from tests.adapted import SIZES, random_adapters
from tests.checkpoint.folders import write_with_codec
from tests.listening import noise
from tests.serve.client import arrived, joined

FRAMES = list(noise(0.72, 3).reshape(9, 1920))  # loud: silence might be left out
HEARD = 6  # frames that come back: the first ones have none


@pytest.fixture(scope="module")
def moshi(tmp_path_factory: pytest.TempPathFactory) -> Moshi:
    folder = tmp_path_factory.mktemp("shared")
    model = write_with_codec(folder / "model", **SIZES)
    one = random_adapters(folder / "one", rank=2, seed=1)
    two = random_adapters(folder / "two", rank=3, seed=2)
    return moshi_mlx.load(str(model), adapter={"one": one, "two": two})


@pytest.fixture
def running(moshi: Moshi, serve: Any):
    return serve(places=2, batch=load_batch(model_thread(), lambda: moshi, 2))


def test_clients_at_a_time_hear_the_adapters_that_they_chose(moshi, running):
    async def heard(adapter: str) -> np.ndarray:
        query = f"format=pcm&seed=1{adapter and '&adapter=' + adapter}"
        async with joined(running.chat(query)) as client:
            for frame in FRAMES:
                await client.say(frame)
            while len(client.pcm) < HEARD:
                await client.receive()
            return np.concatenate(client.pcm)

    async def both() -> list[np.ndarray]:
        return list(await asyncio.gather(heard("one"), heard("two")))

    one, two = asyncio.run(both())
    found = {"one": one, "two": two, "": asyncio.run(heard(""))}
    for name, pcm in found.items():
        session = moshi.session(1, adapter=name or None, first="silence")
        replies = [session.step(frame).pcm for frame in FRAMES]
        said = np.concatenate([pcm for pcm in replies if pcm is not None])
        np.testing.assert_allclose(pcm, said[: len(pcm)], atol=1e-4)
    assert np.abs(found["one"] - found["two"]).max() > 1e-2


def test_the_page_and_programs_are_told_the_names(running):
    with urllib.request.urlopen(running.url("/api/build_info")) as answer:
        assert json.load(answer)["adapters"] == ["one", "two"]
    with urllib.request.urlopen(running.url("/v1/models")) as answer:
        assert [m["id"] for m in json.load(answer)["data"]] == ["one", "two"]


def test_an_unknown_name_is_told_in_a_sentence(running, serve):
    async def refused(server: Any) -> list[str]:
        async with arrived(server.chat("adapter=poet")) as client:
            await client.until_closed()
            return client.errors

    words = "adapter='poet' is unknown: use one of one, two."
    assert asyncio.run(refused(running)) == [words]
    none = "adapter='poet' is unknown: this server has none."
    assert asyncio.run(refused(serve())) == [none]


def test_a_model_named_like_an_adapter_is_that_one():
    async def chosen(model: str) -> str | None:
        service: Any = SimpleNamespace(adapters=("one", "two"))
        return MoshiTalk(service, model)._adapter

    assert asyncio.run(chosen("two")) == "two"
    assert asyncio.run(chosen("gpt-realtime")) is None


def test_adapters_are_read_from_the_command(tmp_path: Path):
    assert read_adapters([]) == GivenAdapters()
    assert read_adapters(["runs/a"]) == GivenAdapters(Path("runs/a"))
    named = {"a": Path("runs/a"), "b": Path("hf://x/y")}
    assert read_adapters(["a=runs/a", "b=hf://x/y"]) == GivenAdapters(None, named)
    odd = tmp_path / "a=b"
    odd.mkdir()
    assert read_adapters([str(odd)]) == GivenAdapters(odd)


@pytest.mark.parametrize(
    "given, words",
    [
        (["runs/a", "b=runs/b"], "runs/a has no name, and there are 2"),
        (["a b=runs/a"], "write it as NAME=PATH"),
        (["a="], "write it as NAME=PATH"),
        (["a=x", "a=y"], "a= was given twice"),
    ],
)
def test_odd_adapters_are_told_in_a_sentence(given: list[str], words: str):
    with pytest.raises(ConfigError, match=words):
        read_adapters(given)
