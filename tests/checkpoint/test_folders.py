"""Folders as trainers and other libraries leave them: shards, halves, pickles."""

import json
import re
import shutil
from pathlib import Path

import mlx.core as mx
import pytest

from moshi_mlx.checkpoint.build import load_mimi
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.user_steps import is_japanese
from moshi_mlx.errors import CheckpointError
from tests.checkpoint.folders import assert_equal, load, tensors, write
from tests.tiny import BASE, DATA, Config, Weights, pytorch_weights

MOSHI = DATA / "transformers" / "moshi"
BOTH: Config = {**BASE, "dep_q": BASE["n_q"]}  # a depth step for each stream


def stored(path: Path) -> Weights:
    arrays = mx.load(str(path))
    assert isinstance(arrays, dict)
    return dict(arrays)


def sharded(folder: Path, index: bool = True) -> Path:
    """The golden transformers Moshi in three files."""
    folder.mkdir()
    shutil.copy(MOSHI / "config.json", folder)
    weights = stored(MOSHI / "model.safetensors")
    names, table = sorted(weights), {}
    for n in range(3):
        file = f"model-{n + 1:05}-of-00003.safetensors"
        part = {name: weights[name] for name in names[n::3]}
        table |= dict.fromkeys(part, file)
        mx.save_safetensors(str(folder / file), part)
    if index:
        whole = {"metadata": {"total_size": 1}, "weight_map": table}
        (folder / "model.safetensors.index.json").write_text(json.dumps(whole))
    return folder


@pytest.mark.parametrize("index", [True, False], ids=["index", "names"])
def test_sharded_weights_are_one_model_with_its_codec(tmp_path, index):
    folder = sharded(tmp_path / "model", index)
    assert_equal(load(folder), load(MOSHI))
    found, wanted = (load_mimi(CheckpointInfo.find(f)) for f in (folder, MOSHI))
    others = tensors(wanted)
    for name, w in tensors(found).items():
        assert mx.array_equal(w, others[name]), name


@pytest.mark.parametrize("index", [True, False], ids=["index", "names"])
def test_a_shard_that_is_not_there_is_named(tmp_path, index):
    folder = sharded(tmp_path / "model", index)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00003\.safetensors"):
        load(folder)


@pytest.mark.parametrize("clean", [True, False])
def test_nu_dialogue_s_folders_lose_the_steps_of_the_user(tmp_path, clean):
    """Its trainer predicts them too; unfinished folders have names of their own."""
    weights = pytorch_weights(BOTH)
    named = dict(weights)
    if not clean:
        pattern = r"(.+\.(?:gating(?:\.\d+)?\.linear_(?:in|out)|self_attn\.out_proj))"
        named = {
            re.sub(rf"^{pattern}\.weight$", r"\1_weight", name): w
            for name, w in weights.items()
        }
        assert named.keys() != weights.keys()
    folder = write(tmp_path / "theirs", named, BOTH)
    (folder / "config.json").rename(folder / "moshi_lm_kwargs.json")
    found = load(folder)
    assert found.dep_q == BASE["n_q"] // 2 and found.n_q == BASE["n_q"]
    whole = tensors(load(write(tmp_path / "whole", weights, BOTH)))
    for name, w in tensors(found).items():
        assert mx.array_equal(w, whole[name]), name
    assert CheckpointInfo.find(folder).kind.converses


def test_a_folder_of_j_moshi_s_trainer_without_tokenizer_is_told(
    tmp_path, monkeypatch, caplog
):
    """Moshi's would be taken without a word, and a Japanese text be nonsense."""
    folder = write(tmp_path / "theirs", pytorch_weights(BOTH), BOTH)
    (folder / "config.json").rename(folder / "moshi_lm_kwargs.json")
    english = DATA / "tts" / "tokenizer.model"
    monkeypatch.setattr("moshi_mlx.checkpoint.info.hf_get", lambda *_: english)
    assert CheckpointInfo.find(folder).tokenizer == english
    assert "Japanese models need their own: give --tokenizer" in caplog.text


@pytest.mark.parametrize(
    "name, japanese",
    [
        ("nu-dialogue/j-moshi-ext", True),
        ("someone/J-Moshi-mlx-q4", True),
        ("llm-jp/llm-jp-moshi-v1", True),
        ("kyutai/moshiko-mlx-q4", False),
    ],
)
def test_japanese_models_are_known_by_their_names(name, japanese):
    assert is_japanese(name, None) == japanese


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt"])
def test_pickled_weights_are_refused_in_a_sentence(tmp_path, name):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(BASE))
    (folder / name).write_bytes(b"PK\x03\x04 a torch.save")
    with pytest.raises(CheckpointError, match=rf"{name}.*not read for safety"):
        load(folder)


def test_pickled_weights_that_are_named_are_refused_too(tmp_path):
    folder = write(tmp_path / "model", moshi_name="model.pt")
    (folder / "model.pt").write_bytes(b"\x80\x02} a pickle")
    with pytest.raises(CheckpointError, match="pickle, which is not read for safety"):
        load(folder)
