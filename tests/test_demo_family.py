"""A folder that holds Moshi, an ear and a mouth over one codec, as 'demo' does."""

import json

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.checkpoint import source
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.engines.duplex.engine import Moshi
from moshi_mlx.engines.stt import STTModel
from moshi_mlx.engines.tts import TTSModel
from moshi_mlx.errors import CheckpointError, ConfigError
from tests.family import run, trio

TEXT = "hello there how are you"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return trio(tmp_path_factory.mktemp("trio"))


@pytest.fixture
def built_in(folder, monkeypatch):
    monkeypatch.setattr(source, "DEMO_FOLDER", folder)


def test_each_loader_takes_its_own_model_of_the_folder(folder):
    assert isinstance(moshi_mlx.load(folder), Moshi)
    assert isinstance(moshi_mlx.load_stt(folder), STTModel)
    assert isinstance(moshi_mlx.load_tts(folder), TTSModel)


def test_all_share_one_codec_and_one_tokenizer(folder):
    found = [CheckpointInfo.find(folder, kind=kind) for kind in (None, "stt", "tts")]
    assert [info.model_type for info in found] == ["moshi", "stt", "tts"]
    assert len({info.mimi_weights for info in found}) == 1
    assert len({info.tokenizer for info in found}) == 1
    assert len({tuple(info.moshi_weights) for info in found}) == 3


def test_the_built_in_ones_go_by_names(built_in):
    assert isinstance(moshi_mlx.load("demo"), Moshi)
    for name in ("demo", "demo-stt"):
        assert isinstance(moshi_mlx.load_stt(name), STTModel)
    for name in ("demo", "demo-tts"):
        assert isinstance(moshi_mlx.load_tts(name), TTSModel)
    assert isinstance(moshi_mlx.load("demo-stt"), STTModel)
    assert isinstance(moshi_mlx.load("demo-tts"), TTSModel)


def test_a_model_that_does_not_ship_has_no_name(tmp_path, monkeypatch, folder):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(folder / name)
    monkeypatch.setattr(source, "DEMO_FOLDER", tmp_path)
    with pytest.raises(CheckpointError, match="there is no folder 'demo-stt'"):
        moshi_mlx.load("demo-stt")
    with pytest.raises(ConfigError, match="does not speak"):
        moshi_mlx.load_tts("demo")


def test_a_config_of_the_users_own_is_not_replaced_by_a_siblings(folder):
    info = CheckpointInfo.find(folder, kind="stt", config=folder / "config.json")
    assert info.model_type == "moshi"


def test_a_model_speaks_with_a_voice_of_its_own(folder):
    tts = moshi_mlx.load_tts(folder, temp=0.0)
    assert tts.voices() == ["voice_a.wav", "voice_b.wav"]
    usual = tts.say(TEXT, seed=1).pcm
    np.testing.assert_array_equal(usual, tts.say(TEXT, "voice_a.wav", seed=1).pcm)
    assert not np.array_equal(usual, tts.say(TEXT, "voice_b.wav", seed=1).pcm)


def test_a_model_speaks_at_the_temperature_that_its_config_names(tmp_path):
    folder = trio(tmp_path / "trio")
    assert moshi_mlx.load_tts(folder).temp == 0.6
    config = json.loads((folder / "tts.json").read_text())
    config["lm_gen_config"] = {"temp": 0.25}
    (folder / "tts.json").write_text(json.dumps(config))
    assert moshi_mlx.load_tts(folder).temp == 0.25
    assert moshi_mlx.load_tts(folder, temp=1.0).temp == 1.0


@pytest.mark.usefixtures("built_in")
def test_the_commands_take_the_model_that_they_need(tmp_path, capsys):
    said, answer = tmp_path / "said.wav", tmp_path / "answer.wav"
    assert run("speak", TEXT, "--model", "demo", "--seed", 1, "-o", said) == 0
    assert run("transcribe", said, "--model", "demo", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])
    assert run("respond", said, answer, "--model", "demo", "--seed", 1) == 0
    assert answer.exists()
    assert run("voices", "--model", "demo", "--json") == 0
    listed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert listed["voices"] == ["voice_a.wav", "voice_b.wav"]


def test_a_name_of_a_voice_that_leads_elsewhere_is_refused(folder, tmp_path):
    for name in folder.iterdir():
        (tmp_path / name.name).symlink_to(name)
    config = json.loads((folder / "tts.json").read_text())
    config["tts_config"]["voice"] = "../secret"
    (tmp_path / "tts.json").unlink()
    (tmp_path / "tts.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"voice.*'\.\./secret'"):
        moshi_mlx.load_tts(tmp_path)
