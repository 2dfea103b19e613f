"""Corners of moshi_mlx 0.3.0 that programs out there use."""

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.models import LmGen
from moshi_mlx.modules.seanet import StreamingAdd
from moshi_mlx.utils.sampling import Sampler
from tests import tiny
from tests.tiny import heard


def test_the_table_of_tokens_holds_what_the_newest_calls_brought():
    lm = tiny.lm()  # delays of 0, 1 and 2
    said: list[list[int]] = []
    gen = LmGen(
        lm,
        max_steps=10,
        text_sampler=Sampler(top_k=9),
        audio_sampler=Sampler(top_k=9),
        on_audio_hook=lambda audio: said.append(audio[0, :, 0].tolist()),  # type: ignore
    )
    frames = heard(lm, 1, 14)
    for t in range(14):
        text, _ = gen.step(frames[:, :, t])
        mx.eval(gen.gen_sequence)  # as programs wait for a step
        table = np.array(gen.gen_sequence)
        assert table.shape == (1, 7, max(10, t + 2))
        assert table[0, 0, gen.step_idx - 1] == text.item()
        for k, delay in enumerate(lm.delays):
            if k >= 3:
                assert table[0, 1 + k, t] == frames[0, k - 3, t].item()
            elif t >= delay:
                assert table[0, 1 + k, t - delay] == said[t][k]
        assert (table[..., t + 1 :] == gen.ungenerated_token).all()


def test_an_empty_table_in_its_place_begins_anew():
    gen = LmGen(tiny.lm())
    gen.step(mx.zeros((1, 3), mx.int32))
    shape = (gen.batch_size, gen.num_codebooks, 30)
    gen.gen_sequence = mx.full(shape, gen.ungenerated_token)
    assert gen.step_idx == 0
    with pytest.raises(ValueError, match="give tokens with force"):
        gen.gen_sequence = mx.zeros(shape)


def test_streams_are_added_as_far_as_both_have_come():
    add, rng = StreamingAdd(), np.random.default_rng(0)
    lhs, rhs = (mx.array(rng.standard_normal((1, 2, 20))) for _ in "ab")
    for _ in range(2):
        parts, ends = [], [(3, 3), (5, 9), (9, 9), (9, 20), (20, 20)]
        for (a, b), (c, d) in zip([(0, 0), *ends], ends, strict=False):
            parts.append(add.step(lhs[..., a:c], rhs[..., b:d]))
        assert [part.shape[-1] for part in parts] == [3, 2, 4, 0, 11]
        assert mx.array_equal(mx.concatenate(parts, axis=-1), lhs + rhs)
        add.step(lhs, rhs[..., :4])
        add.reset_state()  # what waited is forgotten
