"""Merged adapters give the dense sum; adapters of another model are refused."""

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.lora import merge, split_adapters, unfrozen
from moshi_mlx.errors import CheckpointError
from moshi_mlx.models.lm import Lm
from tests.checkpoint.folders import load, load_lm, tensors, write
from tests.tiny import BASE, Config, Weights, assert_close, pytorch_weights

SCALING = 2.0
RANK = 4
CONFIG: Config = {**BASE, "depformer_weights_per_step_schedule": [0, 1, 1]}


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def adapted(weights: Weights) -> tuple[Weights, Weights]:
    """Adapters for every linear matrix, as moshi-finetune names them; the sums."""
    lora: Weights = {}
    dense = dict(weights)
    for name, w in weights.items():
        if w.ndim != 2 or "emb" in name:
            continue
        base = name.removesuffix(".weight").removesuffix("_weight")
        in_blocks = base.startswith("depformer.") and ".self_attn." in base
        count = 2 if in_blocks else 1
        sums = []
        for i, block in enumerate(mx.split(w, count)):
            path = f"{base}s.{i}" if ".self_attn." in base else base
            a, b = random(RANK, w.shape[1]), random(block.shape[0], RANK) * 0.1
            lora[f"{path}.lora_A.weight"] = mx.array(a)
            lora[f"{path}.lora_B.weight"] = mx.array(b)
            sums.append(np.array(block) + SCALING * (b @ a))
        dense[name] = mx.array(np.concatenate(sums))
    return lora, dense


def assert_same(found: Lm, expected: Lm) -> None:
    for name, w in tensors(expected).items():
        assert_close(tensors(found)[name], w)


def test_a_folder_of_adapters_gives_the_dense_sum(tmp_path):
    weights = pytorch_weights(CONFIG)
    lora, dense = adapted(weights)
    assert any("in_projs.1.lora_B" in name for name in lora)
    base = write(tmp_path / "base", weights, CONFIG)
    expected = load(write(tmp_path / "dense", dense, CONFIG))
    config = {**CONFIG, "lora": True, "lora_rank": RANK, "lora_scaling": SCALING}
    tuned = write(tmp_path / "tuned", lora, config, "lora.safetensors")
    info = CheckpointInfo.find(tuned, moshi_weights=base / "model.safetensors")
    assert info.lora_weights == tuned / "lora.safetensors"
    found = load_lm(info)
    assert_same(found, expected)
    layers = [
        tensors(found)[
            f"depformer.slices.{k}.transformer.layers.0.gating.linear_in.weight"
        ]
        for k in (1, 2)
    ]
    assert layers[0] is layers[1], "steps on one weight set still share it"


def test_adapters_beside_the_weights_that_were_named_are_left_alone(tmp_path):
    """As training leaves them: merged weights under a name of their own."""
    weights = pytorch_weights(CONFIG)
    lora, _ = adapted(weights)
    folder = write(tmp_path / "tuned", lora, CONFIG, "lora.safetensors")
    expected = load(write(tmp_path / "plain", weights, CONFIG))
    mx.save_safetensors(str(folder / "step_300.safetensors"), weights)
    found = CheckpointInfo.find(folder, moshi_weights=folder / "step_300.safetensors")
    assert found.lora_weights is None
    assert_same(load_lm(found), expected)


def test_an_unmerged_state_dict_is_merged(tmp_path):
    weights = pytorch_weights(CONFIG)
    lora, dense = adapted(weights)
    mixed = {
        name.replace("text_linear", "text_linear.frozen_W"): w
        for name, w in weights.items()
    }
    found = write(tmp_path / "mixed", mixed | lora, CONFIG, lora_scaling=SCALING)
    assert_same(load(found), load(write(tmp_path / "dense", dense, CONFIG)))


def test_merged_weights_are_read_as_they_are(tmp_path):
    _, dense = adapted(pytorch_weights(CONFIG))
    name = "consolidated.safetensors"
    found = load(write(tmp_path / "merged", dense, CONFIG, name, lora=True))
    assert_same(found, load(write(tmp_path / "dense", dense, CONFIG)))


def test_trained_embeddings_replace_those_of_the_base():
    base = {"text_emb.weight": mx.zeros((4, 2)), "out_norm.weight": mx.ones(2)}
    merged = merge(base, {"text_emb.weight": mx.ones((4, 2))}, 1.0, "x")
    assert mx.array_equal(merged["text_emb.weight"], mx.ones((4, 2)))
    assert merged["out_norm.weight"] is base["out_norm.weight"]


def test_the_sum_is_rounded_once():
    """In bfloat16 a small change would vanish factor by factor."""
    base = {"m.weight": mx.ones((1, 1), mx.bfloat16)}
    a, b = (mx.full((1, 1), v, mx.bfloat16) for v in (1 + 2**-7, 1 - 2**-7))
    merged = merge(base, {"m.lora_A.weight": a, "m.lora_B.weight": b}, 1.0, "x")
    assert merged["m.weight"].dtype == mx.bfloat16
    assert merged["m.weight"].item() == 2.0


def test_names_of_frozen_matrices_and_halves_are_told_apart():
    weights = {"m.frozen_W.weight": mx.ones(1), "m.lora_A.weight": mx.ones(1)}
    whole, halves = split_adapters(unfrozen(weights))
    assert (list(whole), list(halves)) == (["m.weight"], ["m.lora_A.weight"])


A, B = mx.ones((2, 3)), mx.ones((4, 2))


@pytest.mark.parametrize(
    "adapters, sentence",
    [
        ({"n.lora_A.weight": A, "n.lora_B.weight": B}, "unknown tensors n"),
        ({"other.weight": A}, r"unknown tensors other\.weight"),
        ({"m.lora_A.weight": A}, "lack one half"),
        ({"m.lora_A.weight": B, "m.lora_B.weight": B}, "trained for another model"),
        ({"q.lora_A.weight": A, "q.lora_B.weight": B}, "quantised matrices"),
    ],
)
def test_adapters_that_do_not_fit_are_named(adapters, sentence):
    base = {name: mx.ones((4, 3)) for name in ("m.weight", "q.weight", "q.scales")}
    with pytest.raises(CheckpointError, match=sentence):
        merge(base, adapters, 1.0, "the adapters of x")
