"""Every published naming of a language model's tensors comes out the same."""

import json
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from moshi_mlx.errors import CheckpointError
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.keys import pytorch_rules, weight_sets
from moshi_mlx.models.lm import Lm
from moshi_mlx.utils.remap import remap
from tests.naming import as_candle

DATA = Path(__file__).parents[1] / "data"
MODELS = ["duplex", "hibiki", "stt", "tts", "zero"]
Weights = dict[str, mx.array]


def config_of(name: str) -> dict:
    return json.loads((DATA / f"lm_{name}" / "config.json").read_text())


def file_of(name: str, file: str = "model.safetensors") -> Weights:
    weights = mx.load(str(DATA / f"lm_{name}" / file))
    assert isinstance(weights, dict)
    return weights


def ours(weights: Weights, config: dict) -> Weights:
    """Renamed, with names and shapes checked against the network."""
    cfg = LmConfig.from_config_dict(config)
    wanted = dict(tree_flatten(Lm(cfg).parameters()))
    found = remap(weights, pytorch_rules(cfg, weight_sets(weights)), "LM", wanted)
    assert {k: w.shape for k, w in found.items()} == {
        k: w.shape for k, w in wanted.items()
    }
    return found


def assert_equal(found: Weights, expected: Weights) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert mx.array_equal(found[name], tensor), name


@pytest.mark.parametrize("name", MODELS)
def test_released_names_fill_the_network(name):
    assert len(ours(file_of(name), config_of(name))) > 20


def test_a_projection_into_no_depth_transformer_is_left_out():
    """PyTorch makes one where ``depformer_multi_linear`` is false, used or not."""
    config, weights = config_of("stt"), file_of("stt")
    extra = weights | {"depformer_in.0.weight": mx.zeros((16, config["dim"]))}
    assert_equal(ours(extra, config), ours(weights, config))


def test_split_names_give_the_same_tensors():
    config = config_of("duplex")
    released = ours(file_of("duplex"), config)
    split = ours(file_of("duplex", "model_split_names.safetensors"), config)
    assert_equal(split, released)


@pytest.mark.parametrize("name", ["duplex", "hibiki"])
def test_candle_names_give_the_same_tensors(name):
    config, released = config_of(name), file_of(name)
    candle = as_candle(released, config)
    assert "depformer.0.linear_in.weight" in candle
    assert_equal(ours(candle, config), ours(released, config))


def test_a_codebook_takes_its_rows_of_the_joined_matrix():
    weights, config = file_of("hibiki"), config_of("hibiki")  # schedule 0 1 2 2
    found = ours(weights, config)
    joined = weights["depformer.layers.1.self_attn.in_proj_weight"]
    rows = joined.shape[0] // 3
    for step, chosen in enumerate([0, 1, 2, 2]):
        name = f"depformer.slices.{step}.transformer.layers.1.self_attn.in_proj.weight"
        block = joined[chosen * rows : (chosen + 1) * rows]
        assert mx.array_equal(found[name], block)


def test_steps_on_one_weight_set_share_memory():
    found = ours(file_of("hibiki"), config_of("hibiki"))
    for part in (
        "linear_in.weight",
        "transformer.layers.0.self_attn.in_proj.weight",
        "transformer.layers.0.gating.linear_in.weight",
    ):
        found_in = [found[f"depformer.slices.{k}.{part}"] for k in range(4)]
        assert found_in[3] is found_in[2]
        assert found_in[2] is not found_in[1]


def test_fewer_weight_sets_than_steps_are_used_in_turn():
    """PersonaPlex predicts 16 codebooks and may come with Moshi's 8 weight sets."""
    config = config_of("duplex") | {"dep_q": 8}
    weights = file_of("duplex")
    found = ours(weights, config)
    for step in range(8):
        part = f"depformer.slices.{step}"
        first = f"depformer.slices.{step % 4}"
        for name in (
            "linear_in.weight",
            "linear_out.weight",
            "transformer.layers.1.gating.linear_out.weight",
            "transformer.layers.1.self_attn.out_proj.weight",
        ):
            assert found[f"{part}.{name}"] is found[f"{first}.{name}"]
    tables = [found[f"depformer.slices.{k}.emb.weight"] for k in range(8)]
    assert tables[5] is tables[1]
    assert tables[7] is tables[3]
    assert mx.array_equal(tables[1], weights["depformer_emb.0.weight"])
    assert not tables[4].any(), "no table was trained for codebook 3's choice"


@pytest.mark.parametrize("naming", ["in_proj", "in_projs"])
def test_adapters_follow_their_matrix(naming):
    cfg = LmConfig.from_config_dict(config_of("hibiki"))
    sets = 3
    a = mx.random.normal((sets * 2, 32))
    old = "depformer.layers.0.self_attn"
    if naming == "in_proj":
        weights = {f"{old}.in_proj.lora_A.weight": a}
    else:
        parts = mx.split(a, sets)
        weights = {f"{old}.in_projs.{i}.lora_A.weight": w for i, w in enumerate(parts)}
    found = remap(weights, pytorch_rules(cfg), "LoRA")
    new = "depformer.slices.3.transformer.layers.0.self_attn.in_proj.lora_A.weight"
    assert len(found) == 4
    assert mx.array_equal(found[new], a[4:6])


def test_unknown_and_missing_tensors_are_named():
    config, weights = config_of("duplex"), file_of("duplex")
    with pytest.raises(CheckpointError, match=r"unknown tensors transformer\.strange"):
        ours(weights | {"transformer.strange": mx.ones(1)}, config)
    del weights["out_norm.alpha"]
    with pytest.raises(CheckpointError, match=r"missing tensors out_norm\.weight"):
        ours(weights, config)
