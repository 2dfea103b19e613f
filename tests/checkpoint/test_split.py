"""PersonaPlex as speech-swift publishes it: three quantised files, and voices."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.moshi_7b import MOSHI_7B, complete
from moshi_mlx.checkpoint.quantize import Choice, describe
from moshi_mlx.checkpoint.split import whole_config
from moshi_mlx.cli.main import main
from moshi_mlx.engines.duplex.persona_voices import load_voice, voice_names
from moshi_mlx.errors import CheckpointError, ConfigError
from tests.checkpoint.folders import assert_equal, load, tensors, write
from tests.persona import SIZE
from tests.tiny import DATA, Config, Weights, pytorch_weights
from tests.utils.hub_server import REPO, serving

GROUP = 64
# As wide as a group everywhere; 12 steps, of which 6 foresee the user.
TINY: Config = {
    **{**MOSHI_7B, **SIZE, "dim": 64, "num_heads": 4, "hidden_scale": 3.0},
    **{"depformer_dim": 64, "depformer_dim_feedforward": 96},
}
PACKED = re.compile(
    r"depformer_in\.\d+\.weight|.+(in_proj_|out_proj\.|linear_\w+\.)weight"
)


def theirs(bits: int) -> Config:
    """speech-swift's config.json of ``TINY``."""
    temporal = ("dim", "num_layers", "num_heads", "hidden_scale", "card", "text_card")
    steps, names = TINY["dep_q"], ("dim", "num_layers", "num_heads")
    depth = {name: TINY[f"depformer_{name}"] for name in names}
    return {
        **{"model_type": "personaplex", "version": "personaplex-7b-v1"},
        "temporal": {key: TINY[key] for key in (*temporal, "context")} | {"n_q": 8},
        "depformer": {**depth, "dim_feedforward": 64, "num_steps": steps, "context": 8},
        "mimi": {"sample_rate": 24000, "num_codebooks": 16},
        "sampling": {"audio_temp": 0.8},
        "delays": TINY["delays"],
        "quantization": {
            **{"bits": bits, "group_size": GROUP},
            "quantized_components": ["temporal", "depformer"],
        },
        "voices": ["NATF2"],
    }


def split(folder: Path, bits: int) -> tuple[Path, Weights]:
    """The three files of a random model, and its tensors as they are stored there."""
    files: dict[str, Weights] = {"temporal": {}, "depformer": {}, "embeddings": {}}
    stored: Weights = {}
    for name, w in pytorch_weights(TINY).items():
        part = "embeddings"
        if name.startswith(("transformer.", "out_norm.")):
            part = "temporal"
        elif re.match(r"depformer(_in)?\.", name):
            part = "depformer"
        short = re.sub(r"^(transformer|depformer)\.(?=layers)", "", name)
        if part == "embeddings" or not PACKED.fullmatch(short):
            stored[name] = files[part][short] = w.astype(mx.float16)
            continue
        matrix, scales, biases = mx.quantize(w, GROUP, bits)
        scales, biases = scales.astype(mx.float16), biases.astype(mx.float16)
        joint, stem = short[-7], short[:-7]  # "." or "_"
        files[part] |= {
            short: matrix,
            f"{stem}{joint}scales": scales,
            f"{stem}{joint}biases": biases,
        }
        wide = (a.astype(mx.float32) for a in (scales, biases))
        stored[name] = mx.dequantize(matrix, *wide, group_size=GROUP, bits=bits)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(theirs(bits)))
    for part, arrays in files.items():
        mx.save_safetensors(str(folder / f"{part}.safetensors"), arrays)
    shutil.copy(DATA / "tts" / "mimi.safetensors", folder)
    shutil.copy(DATA / "tts" / "tokenizer.model", folder / "tokenizer_spm_32k_3.model")
    return folder, stored


@pytest.mark.parametrize("bits", [4, 8])
def test_every_matrix_is_the_one_that_was_packed(tmp_path, bits):
    folder, stored = split(tmp_path / "PersonaPlex-7B-MLX", bits)
    lm = load(folder)
    layers = describe(lm).layers
    assert {(c.bits, c.group_size) for c in layers.values()} == {(bits, GROUP)}
    assert any("slices.11.transformer" in path for path in layers)
    wanted = tensors(load(write(tmp_path / "whole", stored, TINY)))
    found = tensors(lm)
    for name, w in wanted.items():
        path = name.removesuffix(".weight")
        mine = found[name]
        if path in layers:
            scales, biases = found[f"{path}.scales"], found[f"{path}.biases"]
            mine = mx.dequantize(mine, scales, biases, GROUP, bits)
        assert mx.array_equal(mine, w), name


def test_it_takes_a_persona_and_is_described(tmp_path, capsys):
    folder, _ = split(tmp_path / "PersonaPlex-7B-MLX", 8)
    info = CheckpointInfo.find(folder)
    assert info.kind.takes_persona and info.lm_config.foreseen_codebooks == 6
    assert info.mimi_weights == folder / "mimi.safetensors"
    assert main(["info", str(folder)]) == 0
    assert "personaplex" in capsys.readouterr().out


def test_a_file_that_is_missing_is_named(tmp_path):
    folder, _ = split(tmp_path / "model", 4)
    (folder / "depformer.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no file 'depformer\.safetensors'"):
        load(folder)


def test_the_published_sizes_are_moshi_s():
    config = {
        **{"model_type": "personaplex", "delays": [0] + 2 * [0, *[1] * 7]},
        "temporal": {"dim": 4096, "num_layers": 32, "hidden_scale": 4.125, "n_q": 8},
        "depformer": {"dim": 1024, "dim_feedforward": 2816, "num_steps": 16},
    }
    whole = complete("x", config)
    assert {key: whole[key] for key in MOSHI_7B} == {**MOSHI_7B, "dep_q": 16}
    assert whole["foreseen_codebooks"] == 8 and "quantization" not in whole
    packed = whole_config({**config, "quantization": {"bits": 4, "group_size": 64}})
    assert packed["quantization"]["depformer.slices.15.emb"] is False


@pytest.mark.parametrize("bits, group", [(4, 32), (8, 64)])
def test_a_port_under_mlx_s_names_is_read_by_its_tensors(tmp_path, bits, group):
    """As programs write it that follow moshi_mlx 0.3.0: all layers alike, bits and
    groups in nothing but the file's name."""
    lm = load(write(tmp_path / "source", pytorch_weights(TINY), TINY))
    nn.quantize(lm, group, bits)
    folder = tmp_path / "port"
    write(folder, tensors(lm), TINY, f"model.q{bits}.safetensors")
    found = load(folder, bits=bits)
    layers = describe(found).layers
    assert set(layers.values()) == {Choice(group, bits)}
    assert layers.keys() == describe(lm).layers.keys()
    assert_equal(found, lm)
    assert CheckpointInfo.find(folder).kind.takes_persona


@pytest.mark.parametrize(
    "part, key, value",
    [
        ("depformer", "num_steps", 10**12),
        ("depformer", "num_steps", "many"),
        ("temporal", "dim", [1]),
        ("", "delays", 5),
        ("depformer", "dim_feedforward", -3),
        ("quantization", "bits", "few"),
    ],
)
def test_a_config_that_cannot_be_is_told(tmp_path, part, key, value):
    config = theirs(4)
    (config[part] if part else config)[key] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"config has (n_q|quant|del|dim|depf)"):
        CheckpointInfo.find(tmp_path)


def test_its_voices_are_nvidia_s_with_tokens_as_floats(tmp_path):
    folder, _ = split(tmp_path / "model", 8)
    (folder / "voices").mkdir()
    loaded: Any = mx.load(str(DATA / "personaplex" / "voice.safetensors"))
    arrays = {
        "embeddings": loaded["embeddings"].astype(mx.float16),
        "cache": loaded["cache"].astype(mx.float32),
    }
    mx.save_safetensors(str(folder / "voices" / "NATF2.safetensors"), arrays)
    info = CheckpointInfo.find(folder)
    assert voice_names(info) == ["NATF2"]
    cache = load_voice("NATF2", info).cache
    assert cache is not None
    assert np.array_equal(cache, np.array(loaded["cache"][0]))
    bent = {**arrays, "cache": arrays["cache"] + 0.5}
    mx.save_safetensors(str(tmp_path / "bent.safetensors"), bent)
    with pytest.raises(CheckpointError, match="not a voice of PersonaPlex"):
        load_voice(tmp_path / "bent.safetensors", info)


def test_voices_of_a_repository_are_listed_without_a_download(tmp_path, monkeypatch):
    for hub in serving(tmp_path, monkeypatch):
        hub.files = {
            "config.json": json.dumps({**theirs(8), "voices": ["A", 1]}).encode()
        }
        assert voice_names(CheckpointInfo.find(REPO)) == ["A"]
