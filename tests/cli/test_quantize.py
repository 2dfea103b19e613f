"""`moshi-mlx quantize` and `convert`: folders that load again, and what they cost."""

import json
import re
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.audio.files import write_wav
from moshi_mlx.checkpoint.build import load_lm
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.quantize import describe, quantize
from moshi_mlx.cli.main import main
from moshi_mlx.cli.quantize import quality_lines
from tests.checkpoint.folders import assert_equal, tensors, write, write_with_codec
from tests.checkpoint.test_upload import hub as hub
from tests.naming import as_candle
from tests.tiny import BASE, DATA, pytorch_weights

DUPLEX = DATA / "lm_duplex"


@pytest.fixture
def source(tmp_path) -> Path:
    """A PyTorch checkpoint with the codec and tokenizer that it needs."""
    return write_with_codec(tmp_path / "source")


def run(capsys: pytest.CaptureFixture[str], *args: object) -> dict:
    assert main([*map(str, args), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def load(folder: Path):
    return load_lm(CheckpointInfo.find(folder))


def test_a_quantised_folder_stands_alone(capsys, source, tmp_path):
    told = run(capsys, "quantize", source, tmp_path / "q", "--recipe", "q4")
    lm = load_lm(CheckpointInfo.find(source), as_stored=True)
    quantize(lm, 4)
    assert_equal(load(tmp_path / "q"), lm)
    assert told["bytes"] < 0.3 * told["bytes_before"]
    names = {path.name for path in (tmp_path / "q").iterdir()}
    assert {"mimi.safetensors", "tokenizer.model", "mimi_config.json"} < names


@pytest.mark.parametrize(
    "options, bits, group, mode",
    [
        ([], 4, 32, "affine"),
        (["-q", "8", "--group-size", "32"], 8, 32, "affine"),
        (["--bits", "3", "--group-size", "32"], 3, 32, "affine"),
        (["--recipe", "q6g32"], 6, 32, "affine"),
    ],
)
def test_options_say_how(capsys, source, tmp_path, options, bits, group, mode):
    run(capsys, "quantize", source, tmp_path / "q", *options)
    block = json.loads((tmp_path / "q" / "config.json").read_text())["quantization"]
    assert (block["bits"], block["group_size"], block["mode"]) == (bits, group, mode)


def test_floating_modes_keep_tables_affine(capsys, source, tmp_path):
    run(capsys, "quantize", source, tmp_path / "q", "--mode", "mxfp4")
    layers = describe(load_lm(CheckpointInfo.find(tmp_path / "q"))).layers
    assert layers["text_linear"].mode == "mxfp4"
    assert layers["text_emb"].mode == "affine"


def test_layers_that_do_not_divide_are_named(capsys, source, tmp_path):
    assert main(["quantize", str(source), str(tmp_path / "q"), "-q", "8"]) == 0
    shown = capsys.readouterr().out
    assert "not quantised: text_linear (width 32 is not a multiple of 64)" in shown


def test_recipes_are_compared_without_writing(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    page, data, sound = (tmp_path / name for name in ("q.html", "q.json", "a.wav"))
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, 9600))
    write_wav(sound, noise.astype(np.float32), 24_000)
    args = ["quantize", str(full_demo(tmp_path / "demo"))]
    args += ["--compare", "q8g32,q2g32", "--recording", str(sound), "--report"]
    told = run(capsys, *args, page)
    rows = {row["recipe"]: row for row in told["quality"]["recipes"]}
    assert list(rows) == ["q8g32", "q2g32"]
    assert rows["q8g32"]["text_kl"] < 0.1 * rows["q2g32"]["text_kl"]
    assert rows["q8g32"]["audio_top1"] > rows["q2g32"]["audio_top1"] + 0.1
    assert rows["q8g32"]["bytes"] > 2 * rows["q2g32"]["bytes"]
    assert len(rows["q2g32"]["streams"]) == 1 + 8
    assert len(re.findall("<svg", page.read_text())) == 3
    assert quality_lines(told["quality"], "q8g32")[0].startswith("- divergence")
    assert not quality_lines(told["quality"], "q4")
    args[args.index("q8g32,q2g32")] = "q2g32"
    assert main([*args, str(data)]) == 0
    assert json.loads(data.read_text())["recipes"][0]["recipe"] == "q2g32"
    assert "text top-1" in " ".join(capsys.readouterr().out.split())


def full_demo(folder: Path) -> Path:
    """The demo's shape and files with random weights: the demo itself is quantised."""
    info = CheckpointInfo.find("demo")
    config = {k: v for k, v in info.config.items() if k != "quantization"}
    folder.mkdir()
    for key in ("mimi_name", "mimi_config_name", "tokenizer_name"):
        shutil.copy(info.file(config[key]), folder)
    return write(folder, config=config)


def test_a_quantised_source_is_refused(capsys, tmp_path):
    assert main(["quantize", "demo", str(tmp_path / "q")]) == 1
    assert "quantised already" in capsys.readouterr().err
    assert not (tmp_path / "q").exists()
    assert main(["quantize", "demo", "--compare", "q4"]) == 1
    assert "quantised already" in capsys.readouterr().err


def test_mistakes_are_told_before_any_work(capsys, source, tmp_path):
    for args, word in [
        (["--recipe", "q7"], "recipe 'q7' is unknown"),
        (["--recipe", "q4", "--bits", "4"], "sets everything"),
        (["--bits", "7"], "7 bits"),
    ]:
        assert main(["quantize", str(source), str(tmp_path / "q"), *args]) == 1
        assert word in capsys.readouterr().err
    assert main(["quantize", str(source)]) == 2
    assert main(["quantize", str(source), str(source)]) == 1
    assert "is the checkpoint that is read" in capsys.readouterr().err


def test_conversion_keeps_every_number(capsys, source, tmp_path):
    told = run(capsys, "convert", source, tmp_path / "mlx")
    assert_equal(load(tmp_path / "mlx"), load(source))
    assert told["bits_per_weight"] == 32
    found = CheckpointInfo.find(tmp_path / "mlx")
    assert found.mimi_weights.parent == found.tokenizer.parent == tmp_path / "mlx"


def test_candle_files_are_converted_and_quantised(capsys, source, tmp_path):
    candle = as_candle(pytorch_weights(BASE), BASE)
    mx.save_safetensors(str(source / "candle.safetensors"), candle)
    weights = ["--moshi-weights", source / "candle.safetensors"]
    run(capsys, "convert", source, tmp_path / "mlx", *weights)
    assert_equal(load(tmp_path / "mlx"), load(source))
    run(capsys, "quantize", source, tmp_path / "q", *weights)
    run(capsys, "quantize", tmp_path / "mlx", tmp_path / "q2")
    assert_equal(load(tmp_path / "q"), load(tmp_path / "q2"))


def test_conversion_to_another_precision(capsys, source, tmp_path):
    run(capsys, "convert", source, tmp_path / "mlx", "--dtype", "bfloat16")
    lm = load_lm(CheckpointInfo.find(tmp_path / "mlx"), as_stored=True)
    assert {w.dtype for w in tensors(lm).values()} == {mx.bfloat16}


def test_adapters_are_merged(capsys, source, tmp_path):
    weights = pytorch_weights(BASE)
    name = "text_linear.weight"
    a, b = mx.ones((2, 32)), mx.ones((weights[name].shape[0], 2))
    lora = tmp_path / "lora.safetensors"
    adapters = {"text_linear.lora_A.weight": a, "text_linear.lora_B.weight": b}
    mx.save_safetensors(str(lora), adapters)
    run(capsys, "convert", source, tmp_path / "mlx", "--lora-weights", lora)
    merged = load(tmp_path / "mlx").text_linear["weight"]
    assert mx.allclose(merged, weights[name] + 2.0 * (b @ a), atol=1e-5)


def test_upload_pushes_the_folder_with_its_card(capsys, source, tmp_path, hub):
    out = tmp_path / "q"
    told = run(capsys, "quantize", source, out, "--upload", "me/mine")
    assert told["uploaded"] == f"{hub.url}/me/mine"
    assert {"README.md", "config.json", "model.q4.safetensors"} < set(hub.files)
    assert b"4 bits in groups of 32" in hub.files["README.md"]
    weights = (out / "model.q4.safetensors").read_bytes()
    assert hub.files["model.q4.safetensors"] == weights


def test_quantising_from_a_file_needs_less_memory_than_the_file(capsys, tmp_path):
    folder = write_with_codec(
        tmp_path / "source", dim=256, text_card=8000, num_layers=6
    )
    size = (folder / "model.safetensors").stat().st_size
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    run(capsys, "quantize", folder, tmp_path / "q")
    assert size > 30e6
    assert mx.get_peak_memory() - before < 0.6 * size


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--report", "nodir/q.html"], "there is no folder nodir"),
        (["--report", "q.html", "--recording", "no.wav"], "there is no file no.wav"),
        (["--upload", "badname"], "'badname' is not a hub repository"),
        (["--recipe", "q7"], "recipe 'q7' is unknown"),
        (["--bits", "4", "--group-size", "48"], "groups of 48 cannot be computed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_told_before_anything_is_written(
    capsys, source, tmp_path, options, sentence
):
    out = tmp_path / "q"
    assert main(["quantize", str(source), str(out), *options]) == 1
    shown = capsys.readouterr()
    assert sentence in shown.err and shown.out == ""
    assert not out.exists()


@pytest.mark.parametrize("command", ["quantize", "convert"])
def test_a_checkpoint_is_not_written_over_itself(capsys, source, command):
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    assert main([command, str(source), str(source), "--overwrite"]) == 1
    assert "is the checkpoint that is read" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before


def test_an_upload_wants_a_folder(capsys, source):
    args = ["quantize", str(source), "--compare", "q4", "--upload", "me/mine"]
    assert main(args) == 1
    assert "--upload uploads the folder OUT" in capsys.readouterr().err


def test_a_weights_file_that_is_not_there_is_named(capsys):
    assert main(["convert", "folder/none.safetensors", "out"]) == 1
    assert "there is no file 'folder/none.safetensors'" in capsys.readouterr().err
