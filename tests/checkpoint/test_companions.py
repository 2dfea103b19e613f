"""Voices go with their model into the folders that commands write."""

import json
import shutil
import tarfile
from pathlib import Path

import mlx.core as mx
import pytest

from moshi_mlx.checkpoint.build import load_image_encoder, load_lm
from moshi_mlx.checkpoint.companions import companions
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.cli.main import main
from moshi_mlx.engines.duplex.persona_voices import voice_names
from moshi_mlx.errors import CheckpointError
from moshi_mlx.finetune.trainable import add_adapters
from tests.persona import give_voices, personaplex_folder
from tests.tiny import DATA, parameters
from tests.vision import vis_folder


def with_voices(folder: Path) -> Path:
    give_voices(personaplex_folder(folder), "ME")
    shutil.copy(DATA / "personaplex" / "voice.pt", folder / "voices" / "NATF2.pt")
    with tarfile.open(folder / "voices.tgz", "w:gz") as tar:
        tar.add(DATA / "personaplex" / "voice_bf16.pt", "voices/VARM1.pt")
    return folder


@pytest.mark.parametrize("command", [["convert"], ["quantize", "-q", "8"]])
def test_voices_of_a_personaplex_are_copied(tmp_path, command, capsys):
    source, out = with_voices(tmp_path / "source"), tmp_path / "out"
    verb, *options = command
    for again in ([], ["--overwrite"]):
        assert main([verb, str(source), str(out), *options, *again]) == 0
        assert voice_names(CheckpointInfo.find(out)) == ["ME", "NATF2", "VARM1"]
        (out / "voices" / "OLD.pt").touch()


def test_voices_of_a_tts_model_are_copied(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["convert", "demo-tts", str(out)]) == 0
    found = {path.name.partition(".")[0] for path in out.glob("*@*.safetensors")}
    assert found == {"heart", "high", "low"}
    assert companions(CheckpointInfo.find("demo")) == {}


@pytest.mark.parametrize("name", ["X.pt", "X.safetensors", "../voices.tgz"])
def test_what_is_no_voice_is_not_copied(tmp_path, name):
    """A stranger's folder may hold a link to any file."""
    source, secret = with_voices(tmp_path / "source"), tmp_path / "secret"
    secret.write_text("a key")
    link = source / "voices" / name
    link.unlink(missing_ok=True)
    link.symlink_to(secret)
    with pytest.raises(CheckpointError, match=r"X\.pt|X\.safetensors|voices\.tgz"):
        companions(CheckpointInfo.find(source))


def test_fuse_keeps_the_part_that_sees_and_the_codec(tmp_path, capsys):
    source, out = vis_folder(tmp_path / "vis"), tmp_path / "out"
    info = CheckpointInfo.find(source)
    adapters = tmp_path / "adapters"
    adapters.mkdir()
    found = add_adapters(load_lm(info), rank=2, seed=1, keys=["self_attn"])
    mx.save_safetensors(str(adapters / "lora.safetensors"), found.arrays)
    card = {**json.loads((source / "config.json").read_text()), "lora_scaling": 2.0}
    (adapters / "config.json").write_text(json.dumps(card))
    merging = ["--adapter-path", str(adapters), "--save-path", str(out)]
    assert main(["fuse", "--model", str(source), *merging]) == 0
    fused = CheckpointInfo.find(out)
    seen, expected = load_image_encoder(fused), load_image_encoder(info)
    assert seen is not None and expected is not None
    for name, w in parameters(expected).items():
        assert mx.array_equal(parameters(seen)[name], w), name
    assert fused.mimi_weights.read_bytes() == info.mimi_weights.read_bytes()
