"""One door in: the right engine for any checkpoint, and each engine's own door."""

from pathlib import Path

import pytest

import moshi_mlx
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.engines.codec import MimiCodec
from moshi_mlx.engines.duplex.engine import Moshi
from moshi_mlx.engines.stt import STTModel
from moshi_mlx.engines.text import TextModel
from moshi_mlx.engines.tts import TTSModel
from moshi_mlx.errors import ConfigError
from tests.family import listening, translating, writing

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize(
    "name, engine",
    [
        ("demo", Moshi),
        (DATA / "tts", TTSModel),
        (DATA / "transformers" / "mimi", MimiCodec),
    ],
)
def test_config_json_decides_what_load_gives(name, engine):
    model = moshi_mlx.load(name)
    assert type(model) is engine
    assert str(name).split("/")[-1] in repr(model)


@pytest.mark.parametrize(
    "make, engine, ability",
    [
        (listening, STTModel, "transcribes"),
        (translating, Moshi, "translates"),
        (writing, TextModel, "writes"),
    ],
)
def test_folders_of_the_family_are_told_apart(tmp_path, make, engine, ability):
    folder = make(tmp_path)
    assert type(moshi_mlx.load(folder)) is engine
    assert getattr(CheckpointInfo.find(folder).kind, ability)


@pytest.mark.parametrize(
    "loader, lacking",
    [
        (moshi_mlx.load_stt, "does not transcribe speech"),
        (moshi_mlx.load_tts, "does not speak"),
        (moshi_mlx.load_text, "does not continue texts"),
    ],
)
def test_a_door_of_another_kind_refuses_in_a_sentence(loader, lacking):
    with pytest.raises(ConfigError, match=f"demo is a moshi model and {lacking}: use"):
        loader(DATA / "demo")


def test_a_moshi_does_not_translate():
    with pytest.raises(ConfigError, match="does not translate"):
        moshi_mlx.load("demo").translate("question.wav")


def tts(_: Path) -> Path:
    return DATA / "tts"


@pytest.mark.parametrize(
    "make, use",
    [
        (tts, lambda model: model.say("hello", str(DATA / "tts" / "voice_a.wav"))),
        (listening, lambda model: model.session()),
        (writing, lambda model: model.session("hello")),
    ],
)
def test_every_engine_closes_and_says_so(tmp_path, make, use):
    with moshi_mlx.load(make(tmp_path)) as model:
        assert not model.closed
    model.close()  # again changes nothing
    with pytest.raises(ConfigError, match="is closed: load the model again"):
        use(model)
