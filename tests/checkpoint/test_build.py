"""Every format loads to the same model; what does not fit is said in a sentence."""

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from moshi_mlx.checkpoint import memory
from moshi_mlx.checkpoint.build import load_lm, load_mimi, load_tokenizer
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.quantize import Choice
from moshi_mlx.errors import CheckpointError, ConfigError
from tests.checkpoint.folders import assert_equal, load, tensors, write
from tests.naming import as_candle
from tests.tiny import (
    BASE,
    CONDITIONED,
    DATA,
    MINIMAL,
    Config,
    Weights,
    assert_close,
    greedy,
    heard,
    pytorch_weights,
    run,
)
from tests.tiny import lm as tiny_lm

SCHEDULED: Config = {"depformer_weights_per_step_schedule": [0, 1, 1]}
GOLDEN = ["lm_duplex", "lm_hibiki", "lm_stt", "lm_tts", "lm_zero"]


def as_mlx(folder: Path, **options: object) -> Weights:
    """A folder's tensors in the MLX format."""
    return {k: mx.array(w) for k, w in tensors(load(folder, **options)).items()}


@pytest.mark.parametrize("name", GOLDEN)
def test_released_files_load(name):
    lm = load(DATA / name)
    assert {w.dtype for w in tensors(lm).values()} == {mx.float32}


def test_both_pytorch_namings_load_to_equal_tensors():
    split = CheckpointInfo.find(DATA / "lm_duplex" / "model_split_names.safetensors")
    assert split.moshi_weights[0].name == "model_split_names.safetensors"
    assert_equal(
        load(DATA / "lm_duplex" / "model_split_names.safetensors"),
        load(DATA / "lm_duplex"),
    )


@pytest.mark.parametrize("changes", [{}, SCHEDULED], ids=["plain", "scheduled"])
def test_candle_and_mlx_files_load_to_equal_tensors(tmp_path, changes: Config):
    config = {**BASE, **changes}
    torch = write(tmp_path / "torch", **changes)
    candle = as_candle(pytorch_weights(config), config)
    assert_equal(load(write(tmp_path / "candle", candle, config)), load(torch))
    assert_equal(load(write(tmp_path / "mlx", as_mlx(torch), config)), load(torch))


def test_a_loaded_model_speaks_as_the_same_weights_set_by_hand(tmp_path):
    folder, by_hand = write(tmp_path), tiny_lm()
    frames = heard(by_hand, 1, 10)
    found, expected = run(greedy(load(folder)), frames), run(greedy(by_hand), frames)
    assert np.array_equal(found, expected)


def test_int8_files_load_near_the_original(tmp_path):
    weights = pytorch_weights(BASE)
    rounded: Weights = {}
    for name, w in weights.items():
        if name.endswith("proj_weight") or (".weight" in name and "emb" not in name):
            largest = mx.abs(w).max(axis=1)
            rounded[name] = mx.round(w * 127 / largest[:, None]).astype(mx.int8)
            rounded[f"{name}_scb"] = largest
        else:
            rounded[name] = w
    assert sum(w.dtype == mx.int8 for w in rounded.values()) > 20
    found = tensors(load(write(tmp_path / "int8", rounded, BASE, quantize=True)))
    expected = tensors(load(write(tmp_path / "float", weights)))
    for name, w in expected.items():
        assert_close(found[name], w, 0.01)


def test_int8_files_load_in_float32_to_the_last_bit(tmp_path):
    """On CPU nothing is rounded to 16 bits on the way."""
    weights = pytorch_weights(BASE)
    name, rows = "text_linear.weight", weights["text_linear.weight"].shape
    int8 = mx.random.randint(-127, 128, rows).astype(mx.int8)
    largest = mx.random.uniform(0.5, 2.0, rows[:1])
    folder = write(tmp_path, {**weights, name: int8, f"{name}_scb": largest})
    exact = np.array(int8) * np.array(largest, np.float64)[:, None] / 127
    assert_close(tensors(load(folder))[name], mx.array(exact.astype(np.float32)), 1e-6)
    stored = tensors(load_lm(CheckpointInfo.find(folder), as_stored=True))
    assert stored[name].dtype == mx.bfloat16


def test_steps_on_one_weight_set_share_memory_from_any_format(tmp_path):
    torch = write(tmp_path / "torch", **SCHEDULED)
    mlx = write(tmp_path / "mlx", as_mlx(torch), {**BASE, **SCHEDULED})
    name = "transformer.layers.0.gating.linear_in.weight"
    for folder in (torch, mlx):
        for options in ({}, {"dtype": mx.bfloat16}, {"bits": 4}):
            found = tensors(load(folder, **options))
            second, third = (found[f"depformer.slices.{k}.{name}"] for k in (1, 2))
            assert third is second


@pytest.mark.parametrize("stored", [mx.float32, mx.bfloat16, mx.float16])
def test_on_cpu_everything_is_computed_in_float32(tmp_path, stored):
    weights = {k: w.astype(stored) for k, w in pytorch_weights(BASE).items()}
    folder = write(tmp_path, weights)
    assert {w.dtype for w in tensors(load(folder)).values()} == {mx.float32}
    kept = tensors(load(folder, as_stored=True))
    assert {w.dtype for w in kept.values()} == {stored}


def test_conditioners_stay_float32(tmp_path):
    folder = write(tmp_path, **CONDITIONED)
    for name, w in tensors(load(folder, dtype=mx.bfloat16)).items():
        precise = name.startswith("condition_provider.")
        assert w.dtype == (mx.float32 if precise else mx.bfloat16), name


def test_adapters_in_the_folder_are_merged(tmp_path):
    weights = pytorch_weights(BASE)
    a, b = mx.random.normal((4, 32)), mx.random.normal((40, 4))
    lora = {"text_linear.lora_A.weight": a, "text_linear.lora_B.weight": b}
    write(tmp_path, weights, lora_scaling=0.5, lora_name="lora.safetensors")
    mx.save_safetensors(str(tmp_path / "lora.safetensors"), lora)
    found = load(tmp_path).text_linear.weight
    assert_close(found, weights["text_linear.weight"] + 0.5 * (b @ a))


def test_loading_holds_little_more_than_the_model(tmp_path):
    wide: Config = {
        "dim": 256,
        "depformer_dim": 128,
        "text_card": 8000,
        "num_layers": 6,
    }
    wide |= {"depformer_dim_feedforward": 528}
    folder = write(tmp_path, **wide)
    for options in ({}, {"dtype": mx.bfloat16}, {"bits": 8}):
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        lm = load(folder, **options)
        size = sum(w.nbytes for w in tensors(lm).values())
        assert size > 7e6
        assert mx.get_peak_memory() - before < 1.15 * size
        del lm


@pytest.mark.parametrize("bits", [None, 4])
def test_progress_goes_to_the_end(tmp_path, bits):
    shares: list[float] = []
    load(write(tmp_path), bits=bits, progress=shares.append)
    assert len(shares) > 40
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_a_model_too_large_for_the_machine_is_refused_before_it_is_read(
    tmp_path, monkeypatch
):
    folder = write(tmp_path)
    monkeypatch.setattr(memory, "machine_memory", lambda: 10_000)
    with pytest.raises(CheckpointError, match=r"GB of memory .* quantise it with '-q"):
        load(folder)
    with pytest.raises(CheckpointError, match=r"GB of memory .* smaller model"):
        load(folder, bits=4)


def test_weights_of_another_configuration_are_named(tmp_path):
    folder = write(tmp_path, pytorch_weights(BASE), {**BASE, "text_card": 41})
    with pytest.raises(CheckpointError, match=r"text_emb\.weight has shape \(41, 32\)"):
        load(folder)
    folder = write(tmp_path, pytorch_weights(BASE), {**BASE, "num_layers": 3})
    with pytest.raises(
        CheckpointError, match=r"missing tensors transformer\.layers\.2"
    ):
        load(folder)
    folder = write(tmp_path, pytorch_weights({**BASE, "num_layers": 3}), BASE)
    with pytest.raises(
        CheckpointError, match=r"unknown tensors transformer\.layers\.2"
    ):
        load(folder)


def test_a_codec_given_as_language_model_is_named():
    mimi = DATA / "tts" / "mimi.safetensors"
    info = CheckpointInfo.find(DATA / "lm_duplex", moshi_weights=mimi)
    with pytest.raises(CheckpointError, match="a Mimi codec, not a language model"):
        load_lm(info)


def test_layers_are_quantised_while_loading_where_asked(tmp_path):
    folder = write(tmp_path, **CONDITIONED)
    lm = load(folder, bits=4)
    packed = {k.removesuffix(".scales") for k in tensors(lm) if k.endswith(".scales")}
    assert {"text_emb", "text_linear", "audio_embs.5"} <= packed
    assert "depformer.slices.2.transformer.layers.1.gating.linear_in" in packed
    assert not any(name.startswith("condition_provider") for name in packed)
    assert isinstance(lm.text_linear, nn.QuantizedLinear)
    assert lm.text_linear.bits == 4
    assert mx.array_equal(lm.text_emb(mx.array([-1])), mx.zeros((1, 32)))


def test_a_recipe_decides_while_loading(tmp_path):
    def recipe(path: str, _layer: nn.Module) -> Choice | None:
        return Choice(32, 4) if ".self_attn." in path else None

    found = tensors(load(write(tmp_path), bits=4, recipe=recipe))
    packed = {k.removesuffix(".scales") for k in found if k.endswith(".scales")}
    assert packed and all(".self_attn." in name for name in packed)


def test_asked_bits_must_be_those_of_the_file(tmp_path):
    torch = write(tmp_path / "torch")
    four = write(tmp_path / "four", as_mlx(torch, bits=4), BASE)
    assert_equal(load(four, bits=4), load(four))
    with pytest.raises(ConfigError, match=r"quantised to 4 bits and '-q 8' asks for 8"):
        load(four, bits=8)


WIDE: Config = {"dim": 64, "depformer_dim": 64, "depformer_dim_feedforward": 192}


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_bits_and_groups_are_read_from_the_tensors(tmp_path, bits):
    torch = write(tmp_path / "torch", **WIDE)
    packed = as_mlx(torch, bits=bits)
    found = load(write(tmp_path / "packed", packed, {**BASE, **WIDE}))
    layer = found.text_linear
    assert isinstance(layer, nn.QuantizedLinear)
    assert (layer.bits, layer.group_size, layer.mode) == (
        bits,
        32 if bits == 4 else 64,
        "affine",
    )
    assert_equal(found, load(torch, bits=bits))


def test_what_cannot_be_quantised_at_all_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing .* is not a multiple of 64"):
        load(write(tmp_path, **MINIMAL), bits=8)


def test_tables_in_a_floating_mode_are_read_in_full(tmp_path):
    torch = write(tmp_path / "torch")
    packed = as_mlx(torch)
    table = packed["text_emb.weight"]
    words, scales, *_ = mx.quantize(table, mode="mxfp4")
    packed |= {"text_emb.weight": words, "text_emb.scales": scales}
    mode = {"group_size": 32, "bits": 4, "mode": "mxfp4"}
    folder = write(tmp_path / "packed", packed, BASE, quantization=mode)
    expected = mx.dequantize(words, scales, group_size=32, bits=4, mode="mxfp4")
    found = load(folder).text_emb.weight
    assert found.dtype == mx.float32
    assert mx.array_equal(found, expected)


def test_what_config_says_of_quantisation_must_be_true(tmp_path):
    packed = as_mlx(write(tmp_path / "torch"), bits=4)
    right = {"group_size": 32, "bits": 4}
    load(write(tmp_path / "right", packed, BASE, quantization=right))
    wrong = write(tmp_path / "wrong", packed, BASE, quantization={"bits": 8})
    with pytest.raises(CheckpointError, match=r"bits=4.* and not .*bits=8.* config"):
        load(wrong)


def test_scales_that_fit_no_layer_are_named(tmp_path):
    packed = as_mlx(write(tmp_path / "torch"), bits=4)
    stray = packed | {"transformer.layers.0.norm1.scales": mx.ones((1, 1))}
    with pytest.raises(CheckpointError, match=r"norm1\.scales belongs to no layer"):
        load(write(tmp_path / "stray", stray, BASE))
    packed["text_linear.scales"] = mx.ones((40, 7))
    with pytest.raises(CheckpointError, match="not a known quantisation"):
        load(write(tmp_path / "odd", packed, BASE))


def test_hibiki_hears_its_end_of_sentence_as_padding(tmp_path):
    folder = write(tmp_path, model_type="hibiki")
    two, three = mx.array([2]), mx.array([3])
    for options in ({}, {"bits": 4}):
        emb = load(folder, **options).text_emb
        assert mx.array_equal(emb(two), emb(three))
        assert not mx.array_equal(emb(two), emb(mx.array([4])))
    for lm in (load(folder, as_stored=True), load(write(tmp_path / "moshi"))):
        assert not mx.array_equal(lm.text_emb(two), lm.text_emb(three))


def test_the_codec_loads_in_kyutai_s_naming_and_in_ours(tmp_path):
    folder = DATA / "tts"
    codes = mx.array(np.arange(6 * 5).reshape(1, 6, 5) % 7)
    info = CheckpointInfo.find(folder)
    theirs = load_mimi(info)
    mx.save_safetensors(str(tmp_path / "ours.safetensors"), tensors(theirs))
    ours = CheckpointInfo.find(folder, mimi_weights=tmp_path / "ours.safetensors")
    assert_close(load_mimi(ours).decode(codes), theirs.decode(codes))


def test_the_codec_has_as_many_codebooks_as_are_needed():
    info = CheckpointInfo.find(DATA / "tts")
    assert load_mimi(info).num_codebooks == 6
    assert load_mimi(info, 2).num_codebooks == 2


def test_the_tokenizer_loads():
    tokenizer = load_tokenizer(CheckpointInfo.find(DATA / "tts"))
    assert tokenizer.encode("hello")


def test_what_is_no_tokenizer_is_named(tmp_path):
    folder = write(tmp_path)
    info = CheckpointInfo.find(folder, tokenizer=folder / "config.json")
    with pytest.raises(CheckpointError, match="is not a SentencePiece tokenizer"):
        load_tokenizer(info)
    info = CheckpointInfo.find(folder, tokenizer=folder / "gone")
    with pytest.raises(CheckpointError, match="there is no tokenizer"):
        load_tokenizer(info)
