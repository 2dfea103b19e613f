"""Every token and logit of the golden runs, computed by PyTorch moshi 0.2.13."""

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.fast import ops
from tests.golden import NAMES, Golden, golden
from tests.tiny import assert_close, greedy

TOL = 1e-5  # of the largest logit; the runs are fp32 on both sides
FORCED = ("lm_duplex", "lm_hibiki", "lm_tts")
FILES = [(name, "model.safetensors") for name in NAMES]
FILES.append(("lm_duplex", "model_split_names.safetensors"))
pytestmark = pytest.mark.usefixtures("uncompiled")


def frames(g: Golden, b: int) -> mx.array:
    return mx.repeat(g.io["user_codes"], b, axis=0)


def conditions(g: Golden, b: int) -> tuple:
    ct, cross = g.conditions
    return ct, None if cross is None else mx.repeat(cross, b, axis=0)


def completed(g: Golden, b: int, key: str = "step_output", **options) -> None:
    """Step a batch of equal rows through the run; compare text and completed audio."""
    gen = greedy(g.lm, batch_size=b, **options)
    late = g.lm.cfg.max_delay
    texts = []
    for t in range(g.steps):
        text, _ = gen.step(frames(g, b)[:, :, t], *conditions(g, b))
        texts.append(text[:, 0])
        audio = gen.last_audio_tokens()
        wanted = np.array(g.io[key][0, :, t])
        if t < late:
            assert (wanted == -2).all() and audio is None
        else:
            assert audio is not None
            assert np.array(texts[t - late]).tolist() == [wanted[0]] * b
            assert np.array(audio).tolist() == [wanted[1:].tolist()] * b


@pytest.mark.parametrize("b", [1, 3])
@pytest.mark.parametrize("name, file", FILES)
def test_every_completed_frame_is_the_reference_s(name: str, file: str, b: int):
    completed(golden(name, file), b)


@pytest.mark.parametrize("b", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_every_sampled_token_and_text_logit_is_the_reference_s(name: str, b: int):
    g = golden(name)
    logits: list[mx.array] = []
    said: list[mx.array] = []
    gen = greedy(
        g.lm,
        batch_size=b,
        on_text_logits_hook=lambda x: logits.append(mx.array(x)),
        on_audio_hook=lambda x: said.append(mx.array(x)),
    )
    for t in range(g.steps):
        text, _ = gen.step(frames(g, b)[:, :, t], *conditions(g, b))
        assert text[:, 0].tolist() == [g.io["step_text_tokens"][0, t].item()] * b
    expected = mx.repeat(g.io["step_text_logits"], b, axis=0)
    assert_close(mx.concatenate(logits, axis=1), expected, TOL)
    if g.lm.dep_q:
        expected = mx.repeat(g.io["step_audio_tokens"], b, axis=0)
        assert mx.array_equal(mx.concatenate(said, axis=2), expected)


def test_extra_heads_give_the_reference_s_probabilities():
    g = golden("lm_stt")
    gen = greedy(g.lm)
    found = []
    for t in range(g.steps):
        text, heads = gen.step_with_extra_heads(g.io["user_codes"][:, :, t])
        assert text.item() == g.io["step_text_tokens"][0, t].item()
        found.append(mx.stack(heads, axis=2))
    probabilities = mx.concatenate(found, axis=1)
    assert_close(probabilities, g.io["extra_heads"], TOL)
    assert_close(probabilities.sum(-1), mx.ones(probabilities.shape[:-1]))


@pytest.mark.parametrize("b", [1, 2])
def test_guidance_3_against_the_null_condition_gives_the_reference_s_tokens(b: int):
    g = golden("lm_hibiki")
    completed(g, b, "cfg3_output", cfg_coef=3.0)
    unguided, guided = g.io["step_output"], g.io["cfg3_output"]
    assert not mx.array_equal(unguided, guided)  # else the above proves nothing


def test_fused_conditions_are_the_reference_s():
    for name in ("lm_hibiki", "lm_tts"):
        g = golden(name)
        ct, cross = g.conditions
        assert ct is not None
        assert_close(ct.tensor[:, None], g.io["condition_sum"], TOL)
        if name == "lm_tts":
            assert cross is not None
            assert_close(cross, g.io["condition_cross"], TOL)


@pytest.mark.parametrize("b", [1, 3])
@pytest.mark.parametrize("name", FORCED)
def test_teacher_forced_logits_and_masks_are_the_reference_s(name: str, b: int):
    g = golden(name)
    out = g.lm.teacher_forced(
        mx.repeat(g.io["forced_codes"], b, axis=0), *conditions(g, b)
    )
    for kind in ("text", "audio"):
        logits, mask = getattr(out, f"{kind}_logits"), getattr(out, f"{kind}_mask")
        expected = mx.repeat(g.io[f"forced_{kind}_logits"], b, axis=0)
        assert_close(logits, expected, TOL)
        hidden = mx.repeat(g.io[f"forced_{kind}_mask"], b, axis=0)
        assert mx.array_equal(mask, hidden.astype(mx.bool_))


def test_both_namings_hold_the_same_weights():
    whole = golden("lm_duplex").io["forced_codes"]
    a, b = (
        golden("lm_duplex", file).lm.teacher_forced(whole)
        for file in ("model.safetensors", "model_split_names.safetensors")
    )
    assert mx.array_equal(a.text_logits, b.text_logits)
    assert a.audio_logits is not None and b.audio_logits is not None
    assert mx.array_equal(a.audio_logits, b.audio_logits)


@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_s_fused_operations_give_the_same_tokens(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    """The form of the arithmetic that Metal runs, on CPU."""
    monkeypatch.setattr(ops, "on_gpu", lambda: True)
    golden.cache_clear()  # norms keep what they prepared for CPU
    try:
        completed(golden(name), 2)
        if name in FORCED:
            test_teacher_forced_logits_and_masks_are_the_reference_s(name, 2)
    finally:
        golden.cache_clear()
