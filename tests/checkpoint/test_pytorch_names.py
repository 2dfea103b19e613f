"""`convert --format pytorch` writes the files that Kyutai's package would write."""

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

import moshi_mlx
from moshi_mlx.checkpoint.pytorch_names import check_codec_names, pytorch_names
from moshi_mlx.checkpoint.quantize import quantize
from moshi_mlx.checkpoint.source import DEMO_FOLDER
from moshi_mlx.cli.main import main
from moshi_mlx.errors import ConfigError
from tests.checkpoint.folders import assert_equal, load, write_with_codec
from tests.golden import NAMES, golden
from tests.tiny import BASE, CONDITIONED, DATA, lm, parameters, pytorch_weights
from tests.tiny import load as network

TOKENIZER = DATA / "tts" / "tokenizer.model"


def stored(path) -> dict[str, mx.array]:
    arrays = mx.load(str(path))
    assert isinstance(arrays, dict)
    return arrays


def assert_same(found: dict[str, mx.array], wanted: dict[str, mx.array]) -> None:
    assert found.keys() == wanted.keys()
    for name, w in wanted.items():
        assert found[name].shape == w.shape, name
        assert mx.array_equal(found[name], w), name


@pytest.mark.parametrize("name", NAMES)
def test_golden_files_are_written_as_they_were(name):
    network = golden(name).lm
    found = pytorch_names(network, parameters(network))
    assert_same(found, stored(DATA / name / "model.safetensors"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        CONDITIONED,
        {"depformer_weights_per_step_schedule": [0, 1, 1]},
        {"depformer_low_rank_embeddings": 8, "demux_second_stream": True},
        {"norm": "layer_norm", "extra_heads_num_heads": 2},
    ],
    ids=["plain", "conditioned", "scheduled", "demux", "norm"],
)
def test_every_part_of_the_network_has_its_name(changes):
    config = {**BASE, **changes}
    weights = pytorch_weights(config)
    model = network(config, weights)
    assert_same(pytorch_names(model, dict(tree_flatten(model.parameters()))), weights)


def test_convert_writes_a_folder_that_loads_equal(tmp_path, capsys):
    source, out, back = tmp_path / "source", tmp_path / "torch", tmp_path / "mlx"
    write_with_codec(source)
    assert main(["convert", str(source), str(out), "--format", "pytorch"]) == 0
    assert_same(stored(out / "model.safetensors"), stored(source / "model.safetensors"))
    assert main(["convert", str(out), str(back)]) == 0
    assert_equal(load(back), load(source))


@pytest.mark.parametrize(
    "name, command", [("stt", ["convert"]), ("moshi", ["quantize", "-q", "4"])]
)
def test_the_codec_of_a_transformers_file_is_saved_alone(
    tmp_path, name, command, capsys
):
    """All of its codebooks, and none of the language model's tensors."""
    source, out = DATA / "transformers" / name, tmp_path / "out"
    verb, *options = command
    options += ["--tokenizer", str(TOKENIZER)]
    assert main([verb, str(source), str(out), *options]) == 0, capsys.readouterr().err
    names = stored(out / "mimi.safetensors")
    assert not any("embed_tokens" in n or "layernorm" in n for n in names)
    check_codec_names(out / "mimi.safetensors", "it")
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * 1920).astype(np.float32)
    before, after = (moshi_mlx.load_codec(p).encode(noise) for p in (source, out))
    assert before.shape[0] == 4 and (before == after).all()
    if verb == "convert":
        assert_equal(load(out), load(source))


def test_gguf_is_converted_without_a_change(tmp_path, capsys):
    source, out = DATA / "gguf", tmp_path / "out"
    codec = str(DATA / "tts" / "mimi.safetensors")
    options = ["--tokenizer", str(TOKENIZER), "--mimi-weights", codec]
    assert main(["convert", str(source), str(out), *options]) == 0
    assert_equal(load(out), load(source))
    again = str(tmp_path / "again")
    assert main(["convert", str(source), again, "--format", "pytorch", *options]) == 1
    assert "holds full precision only" in capsys.readouterr().err
    assert main(["quantize", str(source), again, "-q", "4", *options]) == 1
    assert "quantised already" in capsys.readouterr().err


def test_a_codec_with_mlx_s_names_is_not_written_for_pytorch(tmp_path):
    with pytest.raises(ConfigError, match="--mimi-weights FILE"):
        check_codec_names(DEMO_FOLDER / "mimi.safetensors", "demo")


def test_speech_to_text_keeps_pytorch_s_unused_projection():
    model = lm(dep_q=0, depformer_multi_linear=False)
    found = pytorch_names(model, parameters(model))
    assert found["depformer_in.0.weight"].shape == (
        BASE["depformer_dim"],
        BASE["dim"],
    )


def test_a_quantised_model_is_refused():
    model = lm(dim=64)
    quantize(model, 8, 32)
    with pytest.raises(ConfigError, match="full precision only"):
        pytorch_names(model, {})
