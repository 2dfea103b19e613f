"""Recipes give every layer of a kind the same; q4 and q8 are moshi_mlx 0.3.0's."""

from collections import Counter

import mlx.core as mx
import mlx.nn as nn
import pytest

from moshi_mlx.checkpoint.build import load_lm
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.quantize import Choice, apply, plan, quantizable, quantize
from moshi_mlx.checkpoint.recipes import KINDS, kind_of, mixed, only, recipe_named
from moshi_mlx.errors import ConfigError
from moshi_mlx.models import Lm, LmConfig, config_v0_1
from tests.checkpoint.folders import tensors
from tests.persona import personaplex_folder
from tests.released import RELEASED
from tests.tiny import Config
from tests.tiny import lm as tiny_lm

WIDE: Config = {"dim": 64, "depformer_dim": 64, "depformer_dim_feedforward": 192}


@pytest.mark.parametrize("name", RELEASED)
def test_every_layer_of_released_models_is_of_a_known_kind(name):
    lm = Lm(LmConfig.from_config_dict(RELEASED[name]))
    kinds = {path: kind_of(path) for path in quantizable(lm)}
    strange = {
        path
        for path, kind in kinds.items()
        if kind == "other" and not path.startswith(("condition_", "extra_heads"))
    }
    assert not strange


def test_the_7b_has_every_kind_and_mixed_reads_no_more_than_q4():
    from moshi_mlx.checkpoint.cost import cost

    lms = {}
    for name in ("q4", "mixed"):
        lm = Lm(config_v0_1())
        lm.set_dtype(mx.bfloat16)
        assert {kind_of(path) for path in quantizable(lm)} == set(KINDS)
        apply(lm, plan(lm, recipe_named(name)).layers)
        lms[name] = cost(lm)
    assert lms["mixed"].step_bytes < lms["q4"].step_bytes
    assert lms["mixed"].nbytes < 1.02 * lms["q4"].nbytes


def test_mixed_gives_sensitive_layers_more():
    lm = tiny_lm(**WIDE)
    result = quantize(lm, recipe=mixed)
    assert result.layers["text_linear"] == Choice(64, 8)
    assert result.layers["transformer.layers.0.self_attn.in_proj"] == Choice(64, 5)
    assert result.layers["transformer.layers.0.gating.linear_in"] == Choice(64, 4)
    bits = Counter(choice.bits for choice in result.layers.values())
    assert set(bits) == {4, 5, 8}


def test_mixed_takes_smaller_groups_for_odd_widths():
    lm = tiny_lm()
    widths = {
        path: layer["weight"].shape[-1] for path, layer in quantizable(lm).items()
    }
    result = quantize(lm, recipe=mixed)
    assert set(widths.values()) == {32, 64, 96}
    for path, choice in result.layers.items():
        assert choice.group_size == (64 if widths[path] == 64 else 32)
    assert not result.kept


@pytest.mark.parametrize(
    "name, choice",
    [
        ("q4", Choice(32, 4)),
        ("q8", Choice(64, 8)),
        ("q3", Choice(64, 3)),
        ("q6g128", Choice(128, 6)),
        ("q4g64", Choice(64, 4)),
        ("mxfp4", Choice(32, 4, "mxfp4")),
    ],
)
def test_names_say_bits_and_groups(name, choice):
    assert recipe_named(name)("text_linear", nn.Linear(64, 64)) == choice


@pytest.mark.parametrize("name", ["q7", "q4g", "Q4", "int8", ""])
def test_other_names_are_refused(name):
    with pytest.raises(ConfigError, match="is unknown: use q2"):
        recipe_named(name)


def test_one_kind_alone():
    lm = tiny_lm()
    result = quantize(lm, recipe=only("text head", Choice(32, 4)))
    assert list(result.layers) == ["text_linear"]


@pytest.mark.parametrize("name, group, bits", [("q4", 32, 4), ("q8", 64, 8)])
def test_q4_and_q8_have_the_tensors_that_0_3_0_expects(name, group, bits):
    """It builds its model, runs ``nn.quantize`` on all of it, and loads strictly."""
    dense, lm = tensors(tiny_lm(**WIDE)), tiny_lm(**WIDE)
    quantize(lm, recipe=recipe_named(name))
    expected = {}
    for path, w in dense.items():
        rows, width = w.shape[0], w.shape[-1]
        if w.ndim == 1:  # norms
            expected[path] = (w.shape, mx.float32)
            continue
        stem = path.removesuffix(".weight")
        expected[path] = ((rows, width * bits // 32), mx.uint32)
        for part in ("scales", "biases"):
            expected[f"{stem}.{part}"] = ((rows, width // group), mx.float32)
    assert {k: (w.shape, w.dtype) for k, w in tensors(lm).items()} == expected


def test_the_depth_transformer_may_have_other_bits():
    lm = tiny_lm(**WIDE)
    layers = quantize(lm, recipe=recipe_named("q4d8")).layers
    bits = {path: choice.bits for path, choice in layers.items()}
    deep = {path for path in bits if path.startswith("depformer.")}
    assert deep and len(deep) < len(bits)
    assert all(bits[path] == (8 if path in deep else 4) for path in bits)
    with pytest.raises(ConfigError, match="recipe 'q4d7' is unknown"):
        recipe_named("q4d7")


def test_personaplex_loaded_in_few_bits_keeps_8_for_its_depth_transformer(tmp_path):
    folder = personaplex_folder(tmp_path / "tiny", dim=64, num_heads=2)
    lm = load_lm(CheckpointInfo.find(folder), bits=4)
    found = {
        path: layer.bits for path, layer in lm.named_modules() if "scales" in layer
    }
    assert {bits for path, bits in found.items() if path.startswith("depf")} == {8}
    assert {bits for path, bits in found.items() if not path.startswith("depf")} == {4}
