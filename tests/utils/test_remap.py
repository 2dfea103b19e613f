"""Renaming is complete, lazy and says what does not fit."""

import struct

import mlx.core as mx
import pytest

from moshi_mlx.errors import CheckpointError
from moshi_mlx.utils.remap import Rule, check_names, remap, shown


def first_half(w: mx.array) -> mx.array:
    return mx.split(w, 2)[0]


def second_half(w: mx.array) -> mx.array:
    return mx.split(w, 2)[1]


def test_groups_are_carried_into_the_target():
    renamed = remap(
        {"a.3.alpha": mx.ones((1, 1, 4))},
        [Rule(r"a\.(\d+)\.alpha", r"b.\1.weight", lambda w: w.reshape(-1))],
        "test",
    )
    assert list(renamed) == ["b.3.weight"]
    assert renamed["b.3.weight"].shape == (4,)


def test_one_source_feeds_several_targets():
    weights = {"proj": mx.arange(4)}
    rules = [
        Rule("proj", "first", first_half),
        Rule("proj", "second", second_half),
        Rule("proj", "again", second_half),
    ]
    renamed = remap(weights, rules, "test", expected=["first", "second", "again"])
    assert renamed["first"].tolist() == [0, 1]
    assert renamed["second"].tolist() == [2, 3]
    assert renamed["again"] is renamed["second"], "equal targets share one array"


def test_a_rule_without_target_drops_its_tensor():
    weights = {"keep": mx.ones(1), "train_only": mx.ones(1)}
    renamed = remap(weights, [Rule("keep", "keep"), Rule("train_.*", None)], "test")
    assert list(renamed) == ["keep"]


def test_rules_match_whole_names_only():
    with pytest.raises(CheckpointError, match=r"unknown tensors emb\.0\.weight_scb"):
        remap({"emb.0.weight_scb": mx.ones(1)}, [Rule(r"emb\.\d+\.weight", "e")], "x")


def test_an_unknown_tensor_is_named():
    with pytest.raises(CheckpointError, match=r"LM weights: unknown tensors strange"):
        remap({"strange": mx.ones(1)}, [Rule("known", "known")], "LM weights")


def test_a_missing_tensor_is_named():
    with pytest.raises(CheckpointError, match="missing tensors other"):
        remap({"a": mx.ones(1)}, [Rule("a", "a")], "x", expected=["a", "other"])


def test_names_nobody_expects_are_named():
    with pytest.raises(CheckpointError, match="unknown tensors b"):
        check_names(["a", "b"], ["a"], "x")


def test_two_spellings_of_one_tensor_are_refused():
    weights = {"in_proj_weight": mx.ones(1), "in_projs.0.weight": mx.ones(1)}
    rules = [Rule("in_proj_weight|in_projs.0.weight", "in_proj.weight")]
    with pytest.raises(CheckpointError, match="two spellings"):
        remap(weights, rules, "x")


def test_a_shape_that_does_not_fit_names_the_tensor():
    with pytest.raises(CheckpointError, match=r"'proj' of shape \(3,\) does not fit"):
        remap({"proj": mx.ones(3)}, [Rule("proj", "p", first_half)], "x")


def test_long_lists_are_cut():
    assert shown(f"t{i}" for i in range(9)) == "t0, t1, t2, t3, t4, t5 and 3 more"


def test_renaming_reads_no_data(tmp_path):
    """The tensors are still on disk: a changed file changes what is read later."""
    path = tmp_path / "w.safetensors"
    mx.save_safetensors(str(path), {"a": mx.zeros((4,))})
    weights = mx.load(str(path))
    assert isinstance(weights, dict)
    renamed = remap(weights, [Rule("a", "b", lambda w: w + 1)], "test")
    with path.open("r+b") as file:
        file.seek(-16, 2)
        file.write(struct.pack("<4f", 5.0, 5.0, 5.0, 5.0))
    assert renamed["b"].tolist() == [6.0] * 4
