"""A stranger's checkpoint takes no file of the user's, and no memory that it names."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.source import Source, stays_inside
from moshi_mlx.cli.main import main
from moshi_mlx.errors import CheckpointError, ConfigError
from tests.checkpoint.folders import load, write
from tests.tiny import BASE, CONDITIONED, DATA, pytorch_weights
from tests.utils.hub_server import REPO, FakeHub, serving

OUTSIDE = [
    *("/etc/passwd", "../secret", "a/../../secret", "file:///etc/passwd", "~/secret"),
    *("file://secret", "C:\\secret", "..\\secret", "\\\\host\\share", "http://x/y"),
    *("hf://owner/repo/../../../secret", "hf:///etc/passwd", "hf://o/r/..\\s", ""),
]
INSIDE = ["model.safetensors", "parts/model.safetensors", "hf://owner/repo/file.model"]
INSIDE += ["mimi-pytorch-e351c8d8@125.safetensors", "hf://owner/repo@v1/a/b", "a..b"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_out_of_a_checkpoint_are_told(name):
    assert not stays_inside(name)
    with pytest.raises(CheckpointError, match="leads out of it"):
        Source(folder=Path("/nowhere")).get(name)


@pytest.mark.parametrize("name", INSIDE)
def test_names_of_files_inside_or_on_the_hub_are_not(name):
    assert stays_inside(name)


@pytest.mark.parametrize(
    "key, part, option",
    [
        ("tokenizer_name", "tokenizer", "--tokenizer"),
        ("mimi_name", "mimi_weights", "--mimi-weights"),
        ("moshi_name", "moshi_weights", "--moshi-weights"),
        ("lora_name", "lora_weights", "--lora-weights"),
        ("mimi_config_name", "mimi_config", "mimi_config="),
    ],
)
def test_a_config_names_no_file_outside_and_the_option_for_it_is_told(
    tmp_path, key, part, option
):
    config = {**BASE, key: "file:///etc/passwd"}
    folder = write(tmp_path / "model", config=config)
    info = CheckpointInfo.find(folder)
    with pytest.raises(CheckpointError, match=rf"has {key} .*leads out.*{option}"):
        getattr(info, part)


def test_an_index_names_no_file_outside(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(BASE))
    index = folder / "model.safetensors.index.json"
    for table in ({"a": "../x.safetensors"}, {"a": 5}, [], None, {}):
        index.write_text(json.dumps({"weight_map": table}))
        with pytest.raises(CheckpointError, match=r"leads out|no weight_map"):
            _ = CheckpointInfo.find(folder).moshi_weights


def test_the_users_own_words_may_name_any_file(tmp_path):
    folder = write(tmp_path / "model")
    (tmp_path / "words").write_bytes(b"t")
    for given in (tmp_path / "words", f"file://{tmp_path}/words"):
        info = CheckpointInfo.find(folder, tokenizer=given)
        assert info.tokenizer == tmp_path / "words"


def test_a_hub_s_config_does_not_make_convert_copy_a_file_of_the_user(
    tmp_path, monkeypatch, capsys
):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    weights = (write(tmp_path / "w") / "model.safetensors").read_bytes()
    for hub in serving(tmp_path, monkeypatch):
        assert isinstance(hub, FakeHub)
        for name in (str(secret), f"file://{secret}", "../../../../../../secret"):
            config = {**BASE, "tokenizer_name": name}
            hub.files = {
                "config.json": json.dumps(config).encode(),
                "model.safetensors": weights,
            }
            assert main(["convert", REPO, str(tmp_path / "out")]) == 1
            assert "--tokenizer" in capsys.readouterr().err
            assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["convert", "quantize"])
def test_only_a_tokenizer_and_weights_are_copied_as_such(tmp_path, command, capsys):
    source = write(tmp_path / "model", tokenizer_name="link", mimi_name="codec")
    (tmp_path / "secret").write_text("mine")
    (source / "link").symlink_to(tmp_path / "secret")
    (source / "codec").symlink_to(tmp_path / "secret")
    bits = ["-q", "8"] if command == "quantize" else []
    arguments = [command, str(source), str(tmp_path / "out"), *bits]
    assert main(arguments) == 1
    assert "is not a SentencePiece tokenizer" in capsys.readouterr().err
    good = str(DATA / "tts" / "tokenizer.model")
    assert main([*arguments, "--tokenizer", good]) == 1
    assert "is not a safetensors file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"dim": 10**9}, "dim 1000000000: give a whole number from 1 to 65536"),
        ({"dim": 8192}, "dim 8192 but no axis of the weights is longer than 288"),
        ({"num_layers": 10**8}, "num_layers 100000000: give"),
        ({"num_layers": 500}, "num_layers 500 but the weights are 50 tensors"),
        ({"delays": [0, 10**9, 0, 0, 0, 0, 0]}, "from 0 to 1000"),
        ({"delays": [0] * 5000}, "5000 delays for 6"),
        ({"context": 10**9}, "context 1000000000"),
        ({"text_card": 10**6}, "text_card 1000000 but no axis"),
        ({"n_q": 100, "delays": [0] * 101}, "n_q 100 but the weights are"),
        ({"depformer_num_layers": 33}, "depformer_num_layers 33"),
        ({"depformer_dim": 4096}, "depformer_dim 4096 but no axis"),
        ({"lm_gen_config": {"temp": -1}}, "lm_gen_config temp -1: give a number from"),
        ({"lm_gen_config": {"top_k": 10**12}}, "top_k"),
        ({"quantization": "q4"}, "quantization 'q4': give an object with bits"),
        ({"quantization": {"bits": "4"}}, "quantization .*: give an object with bits"),
        ({"quantization": {"bits": 4, "a.b": {"mode": []}}}, "quantization"),
        ({"depformer_weights_per_step_schedule": [0, 1, 10**9]}, "schedule"),
        ({"depformer_weights_per_step_schedule": [0, 2, 2]}, r"sets \[0, 2\]: number"),
        ({"tts_config": {"audio_delay": 1e9}}, "tts_config audio_delay"),
        ({"tts_config": {"max_speakers": 10**6}}, "max_speakers"),
        ({"stt_config": {"audio_silence_prefix_seconds": 1e6}}, "prefix_seconds"),
        ({"model_id": {"sig": "../../x", "epoch": 1}}, "model_id sig"),
        ({"lora_scaling": "x"}, "lora_scaling"),
        ({"existing_text_padding_id": 41}, "no token has that number"),
    ],
)
def test_values_that_the_tensors_do_not_bear_out_are_told_before_anything_is_made(
    tmp_path, changes: dict[str, Any], words: str
):
    folder = write(tmp_path, pytorch_weights(BASE), **changes)
    with pytest.raises(ConfigError, match=words):
        load(folder)


def test_null_stands_for_the_default(tmp_path):
    nulls = {"kv_repeat": None, "fuser": {"sum": None}, "lm_gen_config": {"temp": None}}
    more = dict.fromkeys(("foreseen_codebooks", "lead_in_s", "lora_scaling"))
    folder = write(tmp_path, pytorch_weights(BASE), **nulls, **more)
    assert load(folder).cfg.transformer.kv_repeat == 1
    assert "temp" not in CheckpointInfo.find(folder).lm_gen_config


@pytest.mark.parametrize(
    "entry, words",
    [
        ({"lut": {"n_bins": 10**9, "dim": 4}}, "mood' lut n_bins 1000000000"),
        ({"lut": {"n_bins": 1, "dim": 4, "possible_values": ["a", "b"]}}, "2 possible"),
        ({"lut": {"n_bins": 3, "dim": 4, "tokenizer": "bert"}}, "tokenizer 'bert'"),
        ({"lut": [1]}, "mood' lut .1.: give an object"),
    ],
)
def test_conditions_are_bounded_too(tmp_path, entry, words):
    config = {**BASE, **CONDITIONED}
    moods = {**CONDITIONED["conditioners"], "mood": {"type": "lut", **entry}}
    folder = write(tmp_path, pytorch_weights(config), config, conditioners=moods)
    with pytest.raises(ConfigError, match=words):
        load(folder)


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    weights = pytorch_weights(BASE)
    name = next(name for name in weights if name.endswith("gating.linear_in.weight"))
    weights[name][3, 5] = mx.nan
    with pytest.raises(CheckpointError, match=r"linear_in\.weight holds .* \(NaN\)"):
        load(write(tmp_path, weights))


@pytest.mark.parametrize(
    "name, changes, words",
    [
        ("moshi", {"depth": {"num_codebooks": 10**9}}, "num_codebooks 1000000000"),
        ("stt", {"num_codebooks": 10**9}, "num_codebooks 1000000000"),
        ("stt", {"rms_norm_eps": {"bits": []}}, "rms_norm_eps"),
        ("stt", {"rope_parameters": {"rope_theta": "x"}}, "rope_theta 'x'"),
        ("mimi", {"num_quantizers": [1]}, "num_quantizers .1."),
        ("mimi", {"upsampling_ratios": "8654"}, "upsampling_ratios '8654'"),
        ("mimi", {"num_key_value_heads": 0}, "num_key_value_heads 0"),
        ("mimi", {"hidden_size": None}, "no 'hidden_size'"),
        ("helium", {"rope_parameters": {"rope_theta": -1}}, "rope_theta -1"),
    ],
)
def test_the_transformers_library_s_words_are_bounded_too(
    tmp_path, name: str, changes: dict[str, Any], words: str
):
    config = json.loads((DATA / "transformers" / name / "config.json").read_text())
    config["depth_decoder_config"] = {
        **config.get("depth_decoder_config", {}),
        **changes.pop("depth", {}),
    }
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ConfigError, match=words):
        info = CheckpointInfo.find(tmp_path)
        assert info.mimi_config or info.lm_config


def test_helium_s_words_are_bounded_as_ours_are(tmp_path):
    for key, value in (("num_hidden_layers", 10**8), ("hidden_size", 0)):
        config = {"model_type": "helium", "hidden_size": 32, key: value}
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ConfigError, match=key):
            CheckpointInfo.find(tmp_path)
