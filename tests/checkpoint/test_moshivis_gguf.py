"""Candle's quantised MoshiVis: a GGUF file, and the image encoder in one beside it."""

import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.build import load_image_encoder, load_lm
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.moshivis import image_file, is_named_so
from moshi_mlx.checkpoint.quantize import describe
from moshi_mlx.cli.main import main
from moshi_mlx.errors import CheckpointError
from moshi_mlx.utils.gguf import read_gguf, unpacked
from tests.tiny import DATA, assert_close, greedy, parameters
from tests.vision import tensors

FOLDER = DATA / "moshivis_gguf"
TOWER = "model_vision_tower_unquant.safetensors"
pytestmark = pytest.mark.usefixtures("uncompiled")


@pytest.fixture(scope="module", autouse=True)
def uncompiled():
    mx.disable_compile()
    yield
    mx.enable_compile()


def test_every_token_logit_and_gate_is_the_reference_s():
    info = CheckpointInfo.find(FOLDER)
    lm, encoder = load_lm(info), load_image_encoder(info)
    assert encoder is not None
    bits = {(c.bits, c.group_size) for c in describe(lm).layers.values()}
    assert bits == {(8, 32)}
    io = mx.load(str(FOLDER / "io.safetensors"))
    assert isinstance(io, dict)
    pixels = tensors("io")["pixel_values"][:1].transpose(0, 2, 3, 1)
    source = encoder(pixels)
    assert_close(source, io["source"], 1e-4)
    logits: list[mx.array] = []
    gen = greedy(lm, on_text_logits_hook=lambda x: logits.append(mx.array(x)))
    texts, gates = [], []
    for t in range(io["user_codes"].shape[2]):
        text, _ = gen.step(io["user_codes"][:, :, t], cross_attention_src=source)
        texts.append(text.item())
        gates.append(0.0 if gen.gate is None else gen.gate.item())
        audio, wanted = gen.last_audio_tokens(), io["output"][t].tolist()
        if audio is not None:
            codes = np.array(audio[0]).tolist()
            assert [texts[t - gen.max_delay], *codes] == wanted
    assert_close(mx.concatenate(logits, axis=1)[0], io["text_logits"], 1e-4)
    assert np.allclose(gates[1:], np.array(io["gate"])[1:], atol=1e-4)


def test_the_file_beside_is_found_where_the_user_names_the_gguf_file(tmp_path: Path):
    for name in ("model.q8_0.gguf", TOWER, "config.json"):
        shutil.copy(FOLDER / name, tmp_path)
    given = tmp_path / "moshika.q8_0.gguf"
    (tmp_path / "model.q8_0.gguf").rename(given)
    (tmp_path / TOWER).rename(tmp_path / f"moshika{TOWER.removeprefix('model')}")
    info = CheckpointInfo.find(given)
    assert [p.name for p in info.image_weights] == [image_file(given)]
    assert load_image_encoder(info) is not None


def test_a_folder_without_config_is_told_by_either_file(tmp_path: Path):
    for name in (TOWER, "model.q8_0.gguf"):
        shutil.copy(FOLDER / name, tmp_path)
    assert is_named_so("any", tmp_path)
    (tmp_path / TOWER).unlink()
    assert not is_named_so("any", tmp_path), "this one holds no image encoder"


def test_without_the_file_beside_one_sentence_says_what_is_missing(tmp_path: Path):
    for name in ("model.q8_0.gguf", "config.json"):
        shutil.copy(FOLDER / name, tmp_path)
    with pytest.raises(CheckpointError, match=r"image encoder of .* missing tensors"):
        load_image_encoder(CheckpointInfo.find(tmp_path))


def test_quantised_numbers_of_a_gguf_file_are_unpacked_exactly():
    """An image encoder inside the file itself computes with them as they are."""
    packed = read_gguf(DATA / "gguf" / "model.q8.gguf")
    wanted = mx.load(str(DATA / "gguf" / "dequantised.safetensors"))
    found = unpacked(packed)
    assert not any(name.endswith((".scales", ".biases")) for name in found)
    assert isinstance(wanted, dict)
    for name, w in wanted.items():
        stem = name.removesuffix("_weight")
        mine = found.get(name, found.get(f"{stem}.weight"))
        assert mine is not None and mx.array_equal(mine, w), name


def test_it_is_described_and_converted(tmp_path: Path, capsys):
    assert main(["info", str(FOLDER)]) == 0
    assert "moshi_vis" in capsys.readouterr().out
    parts = DATA / "tts"
    given = ["--tokenizer", str(parts / "tokenizer.model")]
    given += ["--mimi-weights", str(parts / "mimi.safetensors")]
    out = tmp_path / "out"
    assert main(["convert", str(FOLDER), str(out), *given]) == 0
    info = CheckpointInfo.find(out)
    for found, wanted in (
        (load_lm(info), load_lm(CheckpointInfo.find(FOLDER))),
        (load_image_encoder(info), load_image_encoder(CheckpointInfo.find(FOLDER))),
    ):
        assert found is not None and wanted is not None
        mine = parameters(found)
        for name, w in parameters(wanted).items():
            assert mx.array_equal(mine[name], w), name
