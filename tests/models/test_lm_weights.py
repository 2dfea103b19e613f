"""The language model's weights: saved, quantised, in half precision, held once."""

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest

from moshi_mlx.models import Lm, LmConfig
from moshi_mlx.modules.conditioner import ConditionAttributes, TensorCondition
from moshi_mlx.utils.sampling import Sampler
from tests import tiny
from tests.models.test_lm import CONFIGS
from tests.tiny import BASE, CONDITIONED, assert_close, number, parameters

pytestmark = pytest.mark.usefixtures("uncompiled")


@pytest.mark.parametrize(
    "name", ["base", "two multiplexed text streams", "no depth transformer"]
)
def test_saved_and_reloaded_weights_give_the_same_logits(name: str, tmp_path: Path):
    c = {**BASE, **CONFIGS[name]}
    lm = tiny.lm(**CONFIGS[name])
    codes = tiny.codes(c, 1, 9)
    expected = lm.teacher_forced(codes).text_logits
    lm.save_weights(str(tmp_path / "lm.safetensors"))
    again = Lm(LmConfig.from_config_dict(c))
    again.load_weights(str(tmp_path / "lm.safetensors"), strict=True)
    assert mx.array_equal(again.teacher_forced(codes).text_logits, expected)


def distance(actual: mx.array, expected: mx.array) -> float:
    """Length of the error, relative to the length of what was expected."""
    return number(mx.linalg.norm(actual - expected) / mx.linalg.norm(expected))


@pytest.mark.parametrize("bits, tol", [(8, 0.1), (4, 0.8)])
def test_a_quantised_model_is_near_the_full_one_and_survives_a_file(
    bits: int, tol: float, tmp_path: Path
):
    """0.3.0's call sequence, before and after ``load_weights``."""
    lm = tiny.lm()
    codes = tiny.codes(BASE, 2, 12, missing=0.1)
    full = lm.teacher_forced(codes)
    nn.quantize(lm, bits=bits, group_size=32)
    found = lm.teacher_forced(codes)
    assert 0 < distance(found.text_logits, full.text_logits) < tol
    assert found.audio_logits is not None and full.audio_logits is not None
    assert 0 < distance(found.audio_logits, full.audio_logits) < tol
    lm.save_weights(str(tmp_path / "q.safetensors"))
    again = Lm(LmConfig.from_config_dict(BASE))
    again.set_dtype(mx.bfloat16)
    nn.quantize(again, bits=bits, group_size=32)
    again.load_weights(str(tmp_path / "q.safetensors"), strict=True)
    assert mx.array_equal(again.teacher_forced(codes).text_logits, found.text_logits)


def dequantised(lm: Lm) -> list[tuple[str, mx.array]]:
    """A quantised model's weights as the numbers that they stand for."""
    found = parameters(lm)
    weights = []
    for name, value in found.items():
        layer = name.removesuffix(".weight")
        if f"{layer}.scales" in found and name.endswith(".weight"):
            scales, biases = found[f"{layer}.scales"], found[f"{layer}.biases"]
            value = mx.dequantize(value, scales, biases, group_size=32, bits=4)
        if not name.endswith((".scales", ".biases")):
            weights.append((name, value))
    return weights


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kv_repeat": 2, "depformer_weights_per_step_schedule": [0, 1, 1]},
        {"demux_second_stream": True, "depformer_low_rank_embeddings": 32},
        CONDITIONED,
    ],
    ids=["base", "shared weights", "two text streams", "conditions"],
)
def test_a_quantised_model_computes_with_the_numbers_it_stands_for(changes):
    c = {**BASE, **changes}
    lm = tiny.lm(**changes)

    def wide(_path: str, module: nn.Module) -> bool:
        return hasattr(module, "to_quantized") and module["weight"].shape[-1] >= 32

    nn.quantize(lm, bits=4, group_size=32, class_predicate=wide)
    full = Lm(LmConfig.from_config_dict(c))
    full.load_weights(dequantised(lm), strict=True)
    codes = tiny.codes(c, 2, 12, missing=0.1)
    conditions: tuple = ()
    if changes is CONDITIONED:
        conditions = None, mx.random.normal((2, 3, c["dim"]))
    found, expected = (m.teacher_forced(codes, *conditions) for m in (lm, full))
    assert_close(found.text_logits, expected.text_logits)
    assert found.audio_logits is not None and expected.audio_logits is not None
    assert_close(found.audio_logits, expected.audio_logits, 2e-5)


def test_only_the_parts_that_0_3_0_s_programs_quantise():
    """run_tts quantised the depth transformer, and attention and gating per layer."""
    lm = tiny.lm()
    codes = tiny.codes(BASE, 1, 9)
    full = lm.teacher_forced(codes).text_logits
    nn.quantize(lm.depformer, bits=8, group_size=32)
    for layer in lm.transformer.layers:
        nn.quantize(layer.self_attn, bits=8, group_size=32)
        nn.quantize(layer.gating, bits=8, group_size=32)
    assert 0 < distance(lm.teacher_forced(codes).text_logits, full) < 0.03
    scales = [name for name in parameters(lm) if name.endswith(".scales")]
    assert not any(k.startswith(("text_", "audio_embs")) for k in scales)
    assert any("depformer.slices.2.linear_out" in k for k in scales)


def test_half_precision_is_near_full_and_stays_half():
    lm = tiny.lm(**CONDITIONED)
    assert lm.condition_provider is not None
    voice = mx.random.normal((1, 3, 5))
    attributes = ConditionAttributes(
        {"mood": "glad"}, {"voice": TensorCondition.from_tensor(voice)}
    )
    conditions = lm.condition_provider.fuse([attributes])
    c = {**BASE, **CONDITIONED}
    codes = tiny.codes(c, 1, 12, missing=0.1)
    full = lm.teacher_forced(codes, *conditions)
    lm.set_dtype(mx.bfloat16)
    half = lm.teacher_forced(codes, *conditions)
    assert half.text_logits.dtype == mx.bfloat16
    assert distance(half.text_logits, full.text_logits) < 0.05
    gen = tiny.greedy(lm)
    text, hidden = gen.step(tiny.heard(lm, 1, 1)[:, :, 0], *conditions)
    assert (text.dtype, hidden.dtype) == (mx.int32, mx.bfloat16)
    assert lm.transformer_cache[0].self_attn.state[0].dtype == mx.bfloat16  # type: ignore


def test_a_condition_s_keys_are_made_once_also_in_half_precision():
    lm = tiny.lm(**CONDITIONED)
    lm.set_dtype(mx.bfloat16)
    cross = mx.random.normal((1, 3, BASE["dim"]))
    gen = tiny.greedy(lm)
    frame = tiny.heard(lm, 1, 1)[:, :, 0]
    gen.step(frame, None, cross)
    made = [layer.cross_attn for layer in gen.cache]
    gen.step(frame, None, cross)
    for layer, before in zip(gen.cache, made, strict=True):
        assert layer.cross_attn is before is not None
    assert made[0] is not None and made[0][1].dtype == mx.bfloat16


def test_sampling_needs_no_more_than_the_weights_of_the_model():
    """Embeddings and inputs run joined, without a second copy of their weights."""
    lm = tiny.lm(dim=128, depformer_dim=128, card=500, text_card=500)
    frames = tiny.heard(lm, 1, 3)
    mx.eval(lm.parameters())
    before = mx.get_active_memory()
    gen = tiny.greedy(lm, text_sampler=Sampler(), audio_sampler=Sampler(), seed=0)
    tiny.run(gen, frames)
    caches = sum(layer.self_attn.nbytes for layer in gen.cache)
    joined = sum(part.linear_in["weight"].nbytes for part in lm.depformer.slices)
    assert joined < sum(e["weight"].nbytes for e in lm.audio_embs)
    assert mx.get_active_memory() - before < caches + joined / 4
