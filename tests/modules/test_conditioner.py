"""Conditions, their null values and how they are fused, against the oracle."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from moshi_mlx.modules.conditioner import (
    ConditionAttributes,
    ConditionProvider,
    LutConditioner,
    LutConditionerConfig,
    TensorCondition,
    TensorConditioner,
    TensorConditionerConfig,
    add_positions,
    dropout_all_conditions,
    dropout_tensor,
)
from tests.oracles import LmOracle
from tests.tiny import BASE, Weights, assert_close, parameters

CONFIG: dict[str, Any] = {
    **BASE,
    "conditioners": {
        "mood": {"type": "lut", "lut": {"n_bins": 3, "dim": 4}},
        "name": {"type": "lut", "lut": {"n_bins": 50, "dim": 6}},
        "voice": {"type": "tensor", "tensor": {"dim": 5}},
        "noise": {"type": "tensor", "tensor": {"dim": 2}},
    },
    "fuser": {
        "sum": ["mood", "name"],
        "cross": ["voice", "noise"],
        "cross_attention_pos_emb": True,
        "cross_attention_pos_emb_scale": 0.5,
    },
}
CONFIG["conditioners"]["mood"]["lut"]["possible_values"] = ["sad", "glad"]


def provider() -> ConditionProvider:
    tensor = [TensorConditionerConfig(dim, 0.5) for dim in (5, 2)]
    made = ConditionProvider(
        BASE["dim"],
        {
            "mood": LutConditionerConfig(3, 4, "noop", ["sad", "glad"]),
            "name": LutConditionerConfig(50, 6, "noop"),
            "voice": tensor[0],
            "noise": tensor[1],
        },
    )
    for conditioner in made.conditioners.values():
        conditioner.learnt_padding = mx.random.normal((1, 1, BASE["dim"]))
    return made


def oracle(made: ConditionProvider) -> LmOracle:
    weights: Weights = {
        f"condition_provider.{name}": w for name, w in parameters(made).items()
    }
    return LmOracle(CONFIG, weights)


def attributes(
    text: dict[str, str | None], steps: tuple[int, int] = (4, 3)
) -> tuple[ConditionAttributes, dict[str, Any]]:
    """Random arrays, their last position hidden; for us and for the oracle."""
    given, wanted = ConditionAttributes(text), dict[str, Any](text)
    for name, t, dim in (("voice", steps[0], 5), ("noise", steps[1], 2)):
        rows = mx.random.normal((1, t, dim))
        mask = mx.arange(t)[None] < t - 1
        given.tensor[name] = TensorCondition(rows, mask)
        wanted[name] = np.array(rows[0]), np.array(mask[0])
    return given, wanted


def test_fused_conditions_of_a_batch_are_the_oracle_s():
    made = provider()
    rows = [
        attributes({"mood": "glad", "name": "Ada"}),
        attributes({"mood": None, "name": "Bo"}),
        attributes({"mood": "sad", "name": None}),
    ]
    ct, cross = made.fuse([given for given, _ in rows])
    assert ct is not None and cross is not None
    for b, (_, wanted) in enumerate(rows):
        total, seen = oracle(made).fuse(wanted)
        assert total is not None and seen is not None
        assert_close(ct.tensor[b], mx.array(total.astype(np.float32)))
        assert_close(cross[b], mx.array(seen.astype(np.float32)))


def test_arrays_are_joined_in_the_model_s_order_whatever_the_caller_s():
    made = provider()
    given, _ = attributes({"name": "Ada", "mood": "sad"})
    turned = ConditionAttributes(
        dict(reversed(given.text.items())), dict(reversed(given.tensor.items()))
    )
    expected, found = made.fuse([given]), made.fuse([turned])
    assert found[1] is not None and expected[1] is not None
    assert mx.array_equal(found[1], expected[1])
    assert found[0] is not None and expected[0] is not None
    assert mx.array_equal(found[0].tensor, expected[0].tensor)


def test_a_condition_that_a_row_leaves_out_is_null():
    made = provider()
    (full, _), (part, _) = attributes({"mood": "sad"}), attributes({})
    del part.tensor["voice"]
    ct, cross = made.fuse([full, part])
    null = part.copy()
    null.text["mood"] = None
    null.tensor["voice"] = dropout_tensor(full.tensor["voice"])
    expected_ct, expected_cross = made.fuse([full, null])
    assert ct is not None and expected_ct is not None
    assert cross is not None and expected_cross is not None
    assert mx.array_equal(ct.tensor, expected_ct.tensor)
    assert mx.array_equal(cross[1, :4], expected_cross[1, :4])


def test_shorter_arrays_are_filled_with_null():
    made = provider()
    (long, _), (short, _) = attributes({}, (4, 3)), attributes({}, (2, 3))
    _, cross = made.fuse([long, short])
    filled = short.copy()
    condition = short.tensor["voice"]
    filled.tensor["voice"] = TensorCondition(
        mx.pad(condition.tensor, [(0, 0), (0, 2), (0, 0)]),
        mx.pad(condition.mask, [(0, 0), (0, 2)]),
    )
    _, expected = made.fuse([long, filled])
    assert cross is not None and expected is not None
    assert mx.array_equal(cross, expected)


def test_dropping_all_conditions_leaves_the_learnt_paddings():
    made = provider()
    given, _ = attributes({"mood": "glad", "name": "Ada"})
    dropped = dropout_all_conditions([given])
    assert given.text["mood"] == "glad"  # a copy was changed
    ct, cross = made.fuse(dropped)
    assert ct is not None and cross is not None
    paddings = {n: c.learnt_padding for n, c in made.conditioners.items()}
    assert_close(ct.tensor, (paddings["mood"] + paddings["name"])[0])
    parts = [
        mx.repeat(paddings[name], t, axis=1) for name, t in (("voice", 4), ("noise", 3))
    ]
    assert_close(cross, add_positions(mx.concatenate(parts, axis=1), 0.5))
    null = made.null()
    assert null is not None
    assert_close(null.tensor, ct.tensor)


def test_one_text_condition_by_name():
    made = provider()
    found = made.condition_tensor("mood", "glad").tensor
    mood = made.conditioners["mood"]
    assert isinstance(mood, LutConditioner)
    assert found.shape == (1, BASE["dim"])
    row = mood.embed["weight"][1] @ mood.output_proj["weight"].T
    assert_close(found[0], row)
    null = made.condition_tensor("mood", None).tensor
    assert mx.array_equal(null, mood.learnt_padding[0])


def test_a_tensor_condition_alone_carries_its_positions():
    made = provider()
    voice = made.conditioners["voice"]
    assert isinstance(voice, TensorConditioner)
    whole = TensorCondition.from_tensor(mx.random.normal((1, 4, 5)))
    assert whole.mask.tolist() == [[1, 1, 1, 1]]
    expected = add_positions(whole.tensor @ voice.output_proj["weight"].T, 0.5)
    assert_close(voice.condition(whole), expected)


@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_conditioners_are_near_the_full_ones(bits: int):
    made = ConditionProvider(
        32,
        {
            "mood": LutConditionerConfig(7, 32, "noop"),
            "voice": TensorConditionerConfig(32),
        },
    )
    given = ConditionAttributes(
        {"mood": "any"},
        {"voice": TensorCondition.from_tensor(mx.random.normal((1, 4, 32)))},
    )
    full = made.fuse([given])
    nn.quantize(made, bits=bits, group_size=32)
    found = made.fuse([given])
    assert full[0] and found[0] and full[1] is not None and found[1] is not None
    tol = {4: 0.3, 8: 0.02}[bits]
    assert_close(found[0].tensor, full[0].tensor, tol)
    assert_close(found[1], full[1], tol)


def test_half_precision_weights_are_computed_with_in_float32():
    made = provider()
    made.set_dtype(mx.bfloat16)
    given, wanted = attributes({"mood": "glad", "name": "Ada"})
    ct, cross = made.fuse([given])
    assert ct is not None and cross is not None
    assert (ct.tensor.dtype, cross.dtype) == (mx.float32, mx.float32)
    for name, w in parameters(made).items():
        assert w.dtype == mx.bfloat16, name
    made.set_dtype(mx.float32)  # the rounded weights, exactly
    total, _ = oracle(made).fuse(wanted)
    assert total is not None
    assert_close(ct.tensor[0], mx.array(total.astype(np.float32)))


def test_attributes_name_their_kinds():
    given, _ = attributes({"mood": None})
    assert list(given.text_attributes) == ["mood"]
    assert list(given.tensor_attributes) == ["voice", "noise"]
    assert ConditionAttributes.condition_types() == {"text", "tensor"}


def test_misuse_is_refused_in_one_sentence():
    made = provider()
    with pytest.raises(ValueError, match="'angry' is unknown: use one of sad, glad"):
        made.condition_tensor("mood", "angry")
    with pytest.raises(ValueError, match="'modd' is unknown: the model has mood, name"):
        made.condition_tensor("modd", "sad")
    with pytest.raises(ValueError, match="'voice' is unknown"):
        made.fuse([ConditionAttributes({"voice": "sad"})])
    wrong = ConditionAttributes({}, {"mood": dropout_tensor(_anything())})
    with pytest.raises(ValueError, match="'mood' is of text, not an array"):
        made.fuse([wrong])
    missing = ConditionAttributes({}, {"voices": _anything()})
    with pytest.raises(ValueError, match="'voices' is unknown"):
        made.fuse([missing])
    with pytest.raises(ValueError, match="tokenizer 'words' is unknown"):
        LutConditioner(8, LutConditionerConfig(3, 4, "words"))
    with pytest.raises(ValueError, match="got no conditions: give at least one"):
        TensorCondition.cat([])


def _anything() -> TensorCondition:
    return TensorCondition.from_tensor(mx.ones((1, 2, 5)))
