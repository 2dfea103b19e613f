"""Compiled frames of the depth transformer give what they give uncompiled.

Everything is tiny: on CPU, g++ compiles each function anew.
"""

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from moshi_mlx.fast import ops
from moshi_mlx.models import Lm, LmGen
from moshi_mlx.utils.sampling import Sampler
from tests import tiny
from tests.golden import golden
from tests.tiny import greedy, heard, run

STEPS = 6
MODEL: dict[str, Any] = {
    "dim": 32,
    "num_layers": 1,
    "n_q": 4,
    "dep_q": 2,
    "depformer_num_layers": 1,
    "delays": [0] * 5,
}


def sampled(lm: Lm, **options: Any) -> LmGen:
    return LmGen(lm, audio_sampler=Sampler(top_k=10), seed=3, **options)


def tokens(lm: Lm, rows: int = 1, gen: LmGen | None = None, **options: Any) -> list:
    gen = sampled(lm, batch_size=rows, **options) if gen is None else gen
    return run(gen, heard(lm, rows, STEPS)).tolist()


def uncompiled(lm: Lm, rows: int = 1, **options: Any) -> list:
    mx.disable_compile()
    try:
        return tokens(lm, rows, **options)
    finally:
        mx.enable_compile()


@pytest.mark.parametrize(
    "options", [{}, {"rows": 2}, {"cfg_coef": 2.0}, {"audio_steps": 1}], ids=str
)
def test_compiled_frames_are_the_plain_ones(options: dict[str, Any]):
    lm = tiny.lm(**MODEL)
    expected = uncompiled(lm, **options)
    assert tokens(lm, **options) == expected
    assert tokens(lm, **options) == expected  # once compiled, for every generator


def test_a_golden_run_is_the_reference_s_also_compiled():
    g = golden("lm_duplex")
    found = run(greedy(g.lm), g.io["user_codes"])
    late = g.lm.cfg.max_delay
    assert np.array_equal(
        found[0, 1:, late:], np.array(g.io["step_output"][0, 1:, late:])
    )


def test_ways_of_sampling_do_not_mix():
    lm = tiny.lm(**MODEL)
    ways: list[dict[str, Any]] = [{"audio_steps": 1}, {"rows": 2}, {}]
    expected = [uncompiled(lm, **way) for way in ways]
    for _ in range(2):
        assert [tokens(lm, **way) for way in ways] == expected


def test_a_sampler_may_change_between_frames():
    lm = tiny.lm(**MODEL)
    frames = heard(lm, 1, 2 * STEPS)

    def changed() -> np.ndarray:
        gen = sampled(lm)
        first = run(gen, frames[..., :STEPS])
        gen.audio_sampler = Sampler(temp=0)
        return np.concatenate([first, run(gen, frames[..., STEPS:])], axis=2)

    mx.disable_compile()
    expected = changed()
    mx.enable_compile()
    assert np.array_equal(changed(), expected)


@pytest.mark.parametrize("change", ["load", "quantise"])
def test_a_new_generator_uses_weights_replaced_since(change: str, tmp_path: Path):
    lm = tiny.lm(**MODEL)
    before = tokens(lm)
    if change == "load":
        other = tiny.lm(seed=1, **MODEL)
        # the temporal transformer stays: only depth may tell the two apart
        other.depformer.save_weights(str(tmp_path / "w.safetensors"))
        lm.depformer.load_weights(str(tmp_path / "w.safetensors"))
    else:
        nn.quantize(
            lm.depformer, 32, 2, class_predicate=lambda _, m: isinstance(m, nn.Linear)
        )
    expected = uncompiled(lm)
    assert tokens(lm) == expected != before


def test_weights_replaced_again_and_again_are_noticed():
    """Also where the new array lies where the old one lay."""
    lm = tiny.lm(**MODEL)
    part = lm.depformer.slices[0].linear_out
    for _ in range(3):
        assert tokens(lm) == uncompiled(lm)
        for _ in range(2):
            part.weight = part.weight * -2


def test_warming_up_compiles_a_frame_before_the_first_real_one():
    lm = tiny.lm(**MODEL)
    lm.warmup()
    traced: list[int] = []
    real = lm.depformer.slices[0].logits
    lm.depformer.slices[0].logits = lambda x: traced.append(0) or real(x)
    gen = LmGen(lm)
    gen.step(heard(lm, 1, 1)[..., 0])
    assert bool(traced) is not ops.compiles()


def test_a_callable_of_the_user_is_called_in_every_frame():
    lm = tiny.lm(**MODEL)
    calls = []

    def likeliest(logits: mx.array) -> tuple[mx.array, mx.array]:
        calls.append(logits.shape)
        return mx.argmax(logits, axis=-1).astype(mx.int32), logits

    tokens(lm, gen=LmGen(lm, audio_sampler=likeliest))  # type: ignore
    assert calls == [(1, 1, tiny.BASE["card"])] * (2 * STEPS)


@pytest.mark.parametrize("options", [{}, {"cfg_coef": 2.0}], ids=str)
def test_another_temperature_compiles_nothing_anew(options: dict[str, Any]):
    lm = tiny.lm(**MODEL)
    tokens(lm, **options)
    depformer: Any = lm.ready().depformer
    compiled = dict(depformer._compiled._functions)
    for temp in (0.5, 0.9):
        other = {**options, "cfg_coef": 1 + 2 * temp} if options else options
        sampler = Sampler(temp, top_k=10)
        gen = LmGen(lm, audio_sampler=sampler, seed=3, **other)
        mx.disable_compile()
        expected = tokens(lm, gen=LmGen(lm, audio_sampler=sampler, seed=3, **other))
        mx.enable_compile()
        assert tokens(lm, gen=gen) == expected
    assert depformer._compiled._functions == compiled
