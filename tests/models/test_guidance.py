"""Classifier-free guidance, and rows on their own, as PyTorch runs them."""

import json
from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.models import Lm, LmConfig, LmGen
from moshi_mlx.models.guidance import Guidance
from moshi_mlx.modules.conditioner import (
    ConditionAttributes,
    ConditionTensor,
    TensorCondition,
    dropout_all_conditions,
)
from tests import tiny
from tests.tiny import CONDITIONED, DATA, assert_close, greedy, heard, run

pytestmark = pytest.mark.usefixtures("uncompiled")
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no_text": {"cfg_is_no_text": True},
    "masked": {"cfg_is_masked_until": [4, 11]},
    "both": {"cfg_is_no_text": True, "cfg_is_masked_until": [4, 11]},
}


@cache
def guided() -> tuple[Lm, dict[str, mx.array]]:
    """Made by scripts/make_lm_assets.py with PyTorch moshi 0.2.13."""
    folder = DATA / "lm_guided"
    config = json.loads((folder / "config.json").read_text())
    lm = Lm(LmConfig.from_config_dict(config))
    lm.load_pytorch_weights(str(folder / "model.safetensors"))
    io = mx.load(str(folder / "io.safetensors"))
    assert isinstance(io, dict)
    return lm, io


def mood(lm: Lm, value: str | None = "glad") -> ConditionTensor:
    assert lm.condition_provider is not None
    return lm.condition_provider.condition_tensor("mood", value)


def completed(gen: LmGen, frames: mx.array, *conditions: Any) -> np.ndarray:
    """As the reference's ``step`` returns it: text delayed like the audio."""
    found = run(gen, frames, *conditions)
    late = gen.max_delay - gen.model.cfg.text_delay
    found[:, 0, late:] = found[:, 0, : found.shape[2] - late]
    found[:, 0, : gen.max_delay] = -2
    return found


@pytest.mark.parametrize("given", ["one row", "rows", "rows and null"])
@pytest.mark.parametrize("name", VARIANTS)
def test_guided_tokens_are_pytorch_s(name: str, given: str):
    lm, io = guided()
    tensor = mood(lm).tensor
    if given != "one row":
        tensor = mx.repeat(tensor, 2, axis=0)
    if given == "rows and null":
        null = mx.repeat(mood(lm, None).tensor, 2, axis=0)
        tensor = mx.concatenate([tensor, null])
    gen = greedy(lm, batch_size=2, cfg_coef=2.0, **VARIANTS[name])
    found = completed(gen, io["user_codes"][:2], ConditionTensor(tensor))
    assert np.array_equal(found, np.array(io[name]))


def test_the_variants_differ():
    _, io = guided()
    assert len({str(io[name].tolist()) for name in VARIANTS}) == len(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_guided_row_gives_alone_what_it_gives_in_a_batch(name: str):
    lm, io = guided()
    for row in range(2):
        options = dict(VARIANTS[name])
        if "cfg_is_masked_until" in options:
            options["cfg_is_masked_until"] = [options["cfg_is_masked_until"][row]]
        gen = greedy(lm, cfg_coef=2.0, **options)
        found = completed(gen, io["user_codes"][row : row + 1], mood(lm))
        assert np.array_equal(found[0], np.array(io[name][row]))


def test_rows_that_start_pause_and_reset_are_pytorch_s():
    lm, io = guided()
    gen = greedy(lm, batch_size=3)
    texts: list[list[int]] = [[], [], []]
    late = gen.max_delay - lm.cfg.text_delay
    for t in range(io["rows"].shape[2]):
        for row in np.flatnonzero(np.array(io["reset"][:, t])):
            gen.reset([int(row)])
            texts[row] = []
        active = np.array(io["active"][:, t]) == 1
        text, _ = gen.step(io["user_codes"][:, :, t], mood(lm), active=active.tolist())
        audio = gen.last_audio_tokens()
        for row in range(3):
            if active[row]:
                texts[row].append(int(np.array(text)[row, 0]))
            wanted = io["rows"][row, :, t].tolist()
            assert isinstance(wanted, list)
            own = [-2] * gen.main_codebooks if audio is None else audio[row].tolist()
            assert own == wanted[1:]
            if wanted[0] != -2:
                assert texts[row][-1 - late] == wanted[0]


def test_guidance_leads_away_from_the_null_condition():
    lm, io = guided()
    frame, seen = io["user_codes"][:1, :, 0], []
    for coef, value in ((1.0, "glad"), (1.0, None), (3.0, "glad")):
        gen = greedy(lm, cfg_coef=coef, on_text_logits_hook=seen.append)
        _, hidden = gen.step(frame, mood(lm, value))
        assert hidden.shape[0] == (1 if coef == 1 else 2)
    given, null, led = seen
    assert_close(led, null + 3 * (given - null))


def test_rows_under_guidance_restart_on_their_own():
    lm, io = guided()
    options: dict[str, Any] = {"cfg_coef": 2.0, "cfg_is_masked_until": [4, 4]}
    gen = greedy(lm, batch_size=2, **options)
    run(gen, io["user_codes"][:2, :, :9], mood(lm))
    gen.reset([1])
    found = run(gen, io["user_codes"][:2, :, 9:], mood(lm))
    fresh = greedy(lm, cfg_coef=2.0, cfg_is_masked_until=[4])
    expected = run(fresh, io["user_codes"][1:2, :, 9:], mood(lm))
    assert np.array_equal(found[1], expected[0])
    whole = run(greedy(lm, batch_size=2, **options), io["user_codes"][:2], mood(lm))
    assert np.array_equal(found[0], whole[0, :, 9:])


def test_rows_under_guidance_pause_on_their_own():
    lm, io = guided()
    gen, frames = greedy(lm, batch_size=2, cfg_coef=2.0), io["user_codes"][:2]
    alone = greedy(lm, cfg_coef=2.0)
    for t in range(20):
        active = [True, t % 3 != 1]
        text, _ = gen.step(frames[:, :, t], mood(lm), active=active)
        if active[1]:
            wanted, _ = alone.step(frames[1:, :, t], mood(lm))
            assert text[1].tolist() == wanted[0].tolist()


def test_a_null_half_is_made_where_only_conditions_are_given():
    lm = tiny.lm(**CONDITIONED)
    assert lm.condition_provider is not None
    voices = [mx.random.normal((1, t, 5)) for t in (4, 3)]
    rows = [
        ConditionAttributes({"mood": m}, {"voice": TensorCondition.from_tensor(v)})
        for m, v in zip(("glad", "sad"), voices, strict=True)
    ]
    frames = heard(lm, 2, 15)
    given = lm.condition_provider.fuse(rows)
    made = run(greedy(lm, batch_size=2, cfg_coef=2.5), frames, *given)
    both = lm.condition_provider.fuse([*rows, *dropout_all_conditions(rows)])
    explicit = run(greedy(lm, batch_size=2, cfg_coef=2.5), frames, *both)
    assert np.array_equal(made, explicit)
    unguided = run(greedy(lm, batch_size=2), frames, *given)
    assert not np.array_equal(made, unguided)


def test_nulls_of_two_conditions_to_attend_to_must_be_given():
    entries = CONDITIONED["conditioners"] | {
        "face": {"type": "tensor", "tensor": {"dim": 6}}
    }
    fuser = CONDITIONED["fuser"] | {"cross": ["voice", "face"]}
    lm = tiny.lm(**{**CONDITIONED, "conditioners": entries, "fuser": fuser})
    cross, frame = mx.random.normal((1, 5, 32)), mx.zeros((1, 3), mx.int32)
    gen = greedy(lm, cfg_coef=2.0)
    with pytest.raises(ValueError, match="give it 2B rows"):
        gen.step(frame, mood(lm), cross)
    gen.step(frame, mood(lm), mx.concatenate([cross, cross]))


def test_conditions_are_prepared_once_as_long_as_they_stay_the_same():
    lm = tiny.lm(**CONDITIONED)
    guidance = Guidance(lm, 2.0)
    ct, cross = mood(lm), mx.random.normal((1, 3, 32))
    first = guidance.prepare(ct, cross, 1)
    assert guidance.prepare(ct, cross, 1) is first
    assert guidance.prepare(ct, cross + 1, 1) is not first
    assert guidance.prepare(mood(lm, "sad"), cross, 1) is not first
    assert first.ct is not None and first.ct.tensor.shape == (2, 1, 32)
    assert first.cross is not None and first.cross.shape == (2, 3, 32)


def test_without_conditions_the_text_alone_can_guide():
    lm = tiny.lm()
    frames = heard(lm, 1, 12)
    plain, led = (
        run(greedy(lm, cfg_coef=coef, cfg_is_no_text=True), frames)
        for coef in (1.0, 4.0)
    )
    assert np.array_equal(plain, run(greedy(lm), frames))
    assert not np.array_equal(plain, led)
