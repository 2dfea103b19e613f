"""Several adapters on one model: each conversation is as with its own adapter alone."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

import moshi_mlx
from moshi_mlx.checkpoint.exchange import save_as_mlx_lm
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.cli.main import main
from moshi_mlx.engines.duplex.batch import Batch
from moshi_mlx.engines.duplex.engine import Moshi
from moshi_mlx.engines.duplex.sampling import Sampling
from moshi_mlx.errors import CheckpointError, ConfigError
from moshi_mlx.utils.tensor_files import read_tensors
from tests.adapted import SIZES, random_adapters
from tests.checkpoint.folders import write_with_codec
from tests.listening import noise

FRAMES = list(noise(0.72, 3).reshape(9, 1920))
SEEDS: dict[str | None, int] = {None: 1, "one": 2, "two": 3}


@pytest.fixture(scope="module", params=["float32", "q4"])
def model(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("model")
    source = write_with_codec(folder / "floats", **SIZES)
    if request.param == "float32":
        return source
    packed = folder / "q4"
    assert main(["quantize", str(source), str(packed), "--recipe", "q4"]) == 0
    return packed


@pytest.fixture(scope="module")
def files(model: Path, tmp_path_factory: Any) -> dict[str, Path]:
    """Of different ranks, factors, layers and programs."""
    folder = tmp_path_factory.mktemp("adapters")
    one = random_adapters(folder / "one", rank=2, seed=1)
    two = random_adapters(folder / "two", rank=5, seed=2, keys=["self_attn", "linears"])
    save_as_mlx_lm(CheckpointInfo.find(model), two, folder / "theirs")
    return {"one": one, "two": folder / "theirs"}


@pytest.fixture(scope="module")
def shared(model: Path, files: dict[str, Path]) -> Moshi:
    return moshi_mlx.load(str(model), adapter=files)


@pytest.fixture(scope="module")
def alone(model: Path, files: dict[str, Path]) -> dict[str | None, list[Any]]:
    """What each says by itself, with adapters that were loaded as the only ones."""
    found = {}
    for name, seed in SEEDS.items():
        engine = moshi_mlx.load(str(model), adapter=name and files[name])
        session = engine.session(seed=seed, first="silence")
        found[name] = [said(session.step(frame)) for frame in FRAMES]
        session.close()
    return found


def said(reply: Any) -> tuple[int, list[int] | None]:
    return reply.text_token, None if reply.tokens is None else reply.tokens.tolist()


def test_rows_of_one_batch_say_what_each_says_alone(shared: Moshi, alone: Any):
    assert len({str(words) for words in alone.values()}) == 3  # they do differ
    with Batch(shared, 3) as batch:
        batch.warmup()
        for order in ([None, "one", "two"], ["two", None, "one"]):
            sessions = [batch.open(Sampling(seed=SEEDS[n]), adapter=n) for n in order]
            heard: list[list[Any]] = [[], [], []]
            for frame in FRAMES:
                for row, reply in enumerate(batch.step(sessions, [frame] * 3)):
                    heard[row].append(said(reply))
            for name, words, session in zip(order, heard, sessions, strict=True):
                assert words == alone[name], name
                session.close()


def test_rows_that_pause_and_come_later_are_right_too(shared: Moshi, alone: Any):
    with Batch(shared, 2) as batch:
        two = batch.open(Sampling(seed=SEEDS["two"]), adapter="two")
        heard = [said(two.step(frame)) for frame in FRAMES[:3]]
        one = batch.open(Sampling(seed=SEEDS["one"]), adapter="one")
        later = [said(one.step(frame)) for frame in FRAMES[:4]]
        heard += [said(two.step(frame)) for frame in FRAMES[3:]]
        later += [said(one.step(frame)) for frame in FRAMES[4:]]
        assert heard == alone["two"]
        assert later == alone["one"]
        two.close()
        again = batch.open(Sampling(seed=SEEDS[None]))  # in the row of "two"
        assert [said(again.step(frame)) for frame in FRAMES] == alone[None]


def test_sessions_of_their_own_choose_too(shared: Moshi, alone: Any):
    sessions = {n: shared.session(SEEDS[n], adapter=n, first="silence") for n in SEEDS}
    heard: dict[Any, list[Any]] = {n: [] for n in SEEDS}
    for frame in FRAMES:
        for name, session in sessions.items():
            heard[name].append(said(session.step(frame)))
    assert heard == alone


def test_unknown_names_are_told(shared: Moshi):
    with pytest.raises(ConfigError, match="'three' is unknown: use one, two"):
        shared.session(adapter="three")


@pytest.mark.parametrize("model", ["float32"], indirect=True)
def test_adapters_that_cannot_be_shared_are_told(model: Path, tmp_path: Path):
    tables = random_adapters(tmp_path / "tables", rank=2, seed=1, tables=True)
    with pytest.raises(CheckpointError, match="use them alone, or train without"):
        moshi_mlx.load(str(model), adapter={"tables": tables})
    other = read_tensors(tables / "lora.safetensors")
    torn = {"text_linear.lora_A.weight": other["text_linear.lora_A.weight"][:, :8]}
    torn["text_linear.lora_B.weight"] = other["text_linear.lora_B.weight"]
    mx.save_safetensors(str(tables / "lora.safetensors"), torn)
    with pytest.raises(CheckpointError, match="were trained for another model"):
        moshi_mlx.load(str(model), adapter={"other": tables})
    del torn["text_linear.lora_B.weight"]
    mx.save_safetensors(str(tables / "lora.safetensors"), torn)
    with pytest.raises(CheckpointError, match="lack one half"):
        moshi_mlx.load(str(model), adapter={"half": tables})
    with pytest.raises(CheckpointError, match="there are no adapters"):
        moshi_mlx.load(str(model), adapter={"gone": tmp_path / "gone"})
