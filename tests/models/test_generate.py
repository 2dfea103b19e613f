"""``LmGen``: one frame in, one frame out, as the contract says."""

import gc
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.models import LmGen
from moshi_mlx.modules.conditioner import ConditionTensor
from moshi_mlx.utils.sampling import Sampler
from tests import tiny
from tests.tiny import BASE, CONDITIONED, assert_close, greedy, heard, run

pytestmark = pytest.mark.usefixtures("uncompiled")
LATE = max(BASE["delays"])
OWN = BASE["dep_q"]


def last(gen: LmGen) -> mx.array:
    tokens = gen.last_audio_tokens()
    assert tokens is not None
    return tokens


def test_a_step_returns_text_and_hidden_of_this_call():
    lm = tiny.lm()
    gen = greedy(lm, batch_size=2)
    text, hidden = gen.step(heard(lm, 2, 1)[:, :, 0])
    assert (text.shape, text.dtype) == ((2, 1), mx.int32)
    assert hidden.shape == (2, 1, BASE["dim"])


def test_the_first_frame_is_never_heard():
    """In call 0 initial tokens stand in the place of every stream."""
    lm = tiny.lm()
    a, b = heard(lm, 1, 12), heard(lm, 1, 12, seed=1)
    b[:, :, 1:] = a[:, :, 1:]
    assert not mx.array_equal(a, b)
    assert np.array_equal(run(greedy(lm), a), run(greedy(lm), b))


def test_a_later_frame_is_used_in_the_call_that_brings_it():
    lm = tiny.lm()
    a, b = heard(lm, 1, 12), heard(lm, 1, 12)
    b[:, 0, 5] = (b[:, 0, 5] + 1) % BASE["card"]  # a stream without delay
    outputs = []
    for frames in (a, b):
        gen = greedy(lm)
        outputs.append([gen.step(frames[:, :, t])[1] for t in range(12)])
    same = [mx.array_equal(x, y).item() for x, y in zip(*outputs, strict=True)]
    assert same[:5] == [True] * 5 and same[5] is False


def test_a_delayed_stream_is_used_delay_calls_later():
    lm = tiny.lm()
    a, b = heard(lm, 1, 12), heard(lm, 1, 12)
    b[:, 2, 5] = (b[:, 2, 5] + 1) % BASE["card"]  # delay 2
    outputs = []
    for frames in (a, b):
        gen = greedy(lm)
        outputs.append([gen.step(frames[:, :, t])[1] for t in range(12)])
    same = [mx.array_equal(x, y).item() for x, y in zip(*outputs, strict=True)]
    assert same[:7] == [True] * 7 and same[7] is False


def test_audio_comes_after_max_delay_calls_with_its_delays_undone():
    lm = tiny.lm()
    frames, said = heard(lm, 2, 10), []
    gen = greedy(lm, batch_size=2, on_audio_hook=lambda x: said.append(mx.array(x)))
    for t in range(10):
        gen.step(frames[:, :, t])
        found = gen.last_audio_tokens()
        if t < LATE:
            assert found is None
            continue
        delays = BASE["delays"][1 : 1 + OWN]
        columns = [said[t - LATE + d][:, k, 0] for k, d in enumerate(delays)]
        assert found is not None and found.shape == (2, OWN)
        assert mx.array_equal(found, mx.stack(columns, axis=1))


def test_no_audio_where_a_hook_left_an_initial_token():
    lm = tiny.lm(delays=[0] * 7)
    calls = []

    def hook(audio: mx.array) -> None:
        calls.append(0)
        if len(calls) == 4:
            audio[0, 1] = BASE["card"]
        if len(calls) == 6:
            audio[:] = -1

    gen = greedy(lm, on_audio_hook=hook)
    found = run(gen, heard(lm, 1, 8))[0, 1:]
    assert (found[:, 3] == -2).all()  # as ``run`` writes None
    assert (found[:, 5] == -1).all()
    assert (np.delete(found, [3, 5], axis=1) >= 0).all()


def test_hooks_edit_in_place_in_0_3_0_s_shapes():
    lm = tiny.lm(delays=[0] * 7)
    shapes = []

    def on_text(text: mx.array) -> None:
        shapes.append(text.shape)
        text[:] = 7

    def on_audio(audio: mx.array) -> None:
        shapes.append(audio.shape)
        audio[:, 0] = 5

    frames = heard(lm, 2, 6)
    gen = greedy(lm, batch_size=2, on_text_hook=on_text, on_audio_hook=on_audio)
    found = run(gen, frames)
    assert (found[:, 0] == 7).all() and (found[:, 1] == 5).all()
    assert set(shapes) == {(2, 1), (2, OWN, 1)}
    plain = run(greedy(lm, batch_size=2), frames)
    assert not np.array_equal(found[:, 2:], plain[:, 2:])  # edits are heard


def test_edited_text_is_what_the_codebooks_are_told():
    lm = tiny.lm(delays=[0] * 7)
    frames = heard(lm, 1, 1)
    told = []
    for word in range(6):
        gen = greedy(
            lm, on_text_hook=lambda text, w=word: text.__setitem__(slice(None), w)
        )
        gen.step(frames[:, :, 0])
        told.append(last(gen).tolist())
    assert len({str(tokens) for tokens in told}) > 1


def test_a_zero_token_from_a_hook_is_fed_as_nothing():
    lm = tiny.lm(n_q=3, delays=[0] * 4)

    def nothing(x: mx.array) -> None:
        x[:] = -1

    gen = greedy(lm, on_text_hook=nothing, on_audio_hook=nothing)
    outputs = [gen.step(mx.zeros((1, 0), mx.int32))[1] for _ in range(3)]
    assert last(gen).tolist() == [[-1] * OWN]
    cache = lm.transformer.make_rot_cache()
    first = mx.array([BASE["text_card"]] + [BASE["card"]] * 3)[None, :, None]
    column = mx.concatenate([first, mx.full((1, 4, 2), -1)], axis=2)
    expected = lm.hidden(column[:, 0], column[:, 1:], cache)
    assert_close(mx.concatenate(outputs, axis=1), expected)
    assert_close(outputs[1], lm_bias(lm, cache_of(lm, first)))


def cache_of(lm: Any, first: mx.array) -> Any:
    cache = lm.transformer.make_rot_cache()
    lm.hidden(first[:, 0], first[:, 1:], cache)
    return cache


def lm_bias(lm: Any, cache: Any) -> mx.array:
    """What the model gives for an input of zeros."""
    zeros = mx.zeros((1, 1, BASE["dim"]))
    return lm.out_norm(lm.transformer(zeros, cache))


def test_text_logits_can_be_edited():
    lm = tiny.lm()
    seen = []

    def hook(logits: mx.array) -> None:
        seen.append(logits.shape)
        logits[..., 11] = 1e4

    found = run(greedy(lm, batch_size=2, on_text_logits_hook=hook), heard(lm, 2, 3))
    assert (found[:, 0] == 11).all()
    assert seen == [(2, 1, BASE["text_card"])] * 3


def test_there_is_no_step_limit():
    lm = tiny.lm()
    gen = greedy(lm, max_steps=3)
    assert gen.max_steps == 3
    frames = heard(lm, 1, 10)
    assert np.array_equal(run(gen, frames), run(greedy(lm), frames))
    assert gen.step_idx == 10


def test_constants_that_programs_read():
    gen = greedy(tiny.lm())
    assert (gen.main_codebooks, gen.max_delay, gen.cfg_coef) == (OWN, LATE, 1.0)
    assert (gen.zero_token, gen.ungenerated_token, gen.batch_size) == (-1, -2, 1)
    gen = LmGen(tiny.lm())
    assert gen.text_sampler == gen.audio_sampler == Sampler(0.8, 0.95)


def test_without_other_or_own_streams():
    lm = tiny.lm(n_q=3, delays=[0, 0, 1, 2])
    gen = greedy(lm)
    found = run(gen, mx.zeros((1, 0, 6), mx.int32))
    assert (found[0, 1:, LATE:] >= 0).all()
    lm = tiny.lm(dep_q=0)
    gen = greedy(lm)
    found = run(gen, heard(lm, 1, 6))
    assert found.shape == (1, 1, 6)
    assert last(gen).shape == (1, 0)


def test_extra_heads_are_softmaxed():
    lm = tiny.lm(extra_heads_num_heads=2, extra_heads_dim=5)
    frames = heard(lm, 2, 4)
    a, b = greedy(lm, batch_size=2), greedy(lm, batch_size=2)
    for t in range(4):
        text, heads = a.step_with_extra_heads(frames[:, :, t])
        wanted, hidden = b.step(frames[:, :, t])
        assert mx.array_equal(text, wanted)
        assert len(heads) == 2
        for head, layer in zip(heads, lm.extra_heads, strict=True):
            assert head.shape == (2, 1, 5)
            assert_close(head, mx.softmax(layer(hidden), axis=-1))


def test_a_sampler_may_be_any_callable():
    lm = tiny.lm()

    def likeliest(logits: mx.array) -> tuple[mx.array, mx.array]:
        return mx.argmax(logits, axis=-1).astype(mx.int32), logits

    frames = heard(lm, 1, 8)
    gen = LmGen(lm, text_sampler=likeliest, audio_sampler=likeliest)  # type: ignore
    assert np.array_equal(run(gen, frames), run(greedy(lm), frames))


def test_a_repetition_penalty_makes_what_was_said_less_likely():
    lm = tiny.lm()
    logits: list[np.ndarray] = []
    words = iter([5, 3, 0, 6, 5, 7, 8, 9])

    def keep(x: mx.array) -> None:
        logits.append(np.array(x[0, 0]))

    def say(text: mx.array) -> None:
        text[:] = next(words)

    frames = heard(lm, 1, 8)
    options: dict[str, Any] = {"on_text_logits_hook": keep, "on_text_hook": say}
    run(greedy(lm, repetition_penalty=2.0, repetition_context=3, **options), frames)
    penalised, logits, words = logits, [], iter([5, 3, 0, 6, 5, 7, 8, 9])
    run(greedy(lm, **options), frames)
    lately = [[], [5], [5], [5], [6], [6, 5], [6, 5, 7], [5, 7, 8]]  # never 0 or 3
    for found, plain, said in zip(penalised, logits, lately, strict=True):
        expected = plain.copy()
        for word in said:
            expected[word] *= 0.5 if plain[word] > 0 else 2.0
        assert_close(mx.array(found), mx.array(expected))


def test_fewer_codebooks_can_be_generated():
    lm = tiny.lm(delays=[0] * 7)
    frames = heard(lm, 1, 1)
    found = run(greedy(lm, audio_steps=2), frames)
    assert (found[0, 3] == -1).all()
    assert np.array_equal(found[0, :3], run(greedy(lm), frames)[0, :3])


def test_own_codes_can_be_given():
    lm = tiny.lm(delays=[0] * 7)
    frames = heard(lm, 1, 6)
    a, b = greedy(lm), greedy(lm)
    for t in range(6):
        text, _ = a.step(frames[:, :, t])
        given, _ = b.step(frames[:, :, t], own_audio_tokens=last(a))
        assert text.tolist() == given.tolist()
        assert last(a).tolist() == last(b).tolist()


def test_a_condition_may_have_a_row_for_all_and_either_shape():
    lm = tiny.lm(conditioners={"mood": CONDITIONED["conditioners"]["mood"]})
    assert lm.condition_provider is not None
    ct = lm.condition_provider.condition_tensor("mood", "glad")
    frames = heard(lm, 2, 8)
    one = run(greedy(lm, batch_size=2), frames, ct)
    both = ConditionTensor(mx.repeat(ct.tensor, 2, axis=0)[:, None])
    assert np.array_equal(run(greedy(lm, batch_size=2), frames, both), one)
    assert not np.array_equal(run(greedy(lm, batch_size=2), frames), one)


def test_checked_steps_refuse_what_is_not_in_the_vocabulary():
    lm = tiny.lm()
    gen = greedy(lm, check=True)
    gen.step(mx.full((1, 3), BASE["card"]))
    gen.step(mx.full((1, 3), -1))
    with pytest.raises(ValueError, match=r"codes are -1 \(none\) to 24"):
        gen.step(mx.full((1, 3), BASE["card"] + 1))


def test_misuse_is_refused_in_one_sentence():
    lm = tiny.lm()
    with pytest.raises(ValueError, match="got 3 seeds for a batch of 2"):
        LmGen(lm, batch_size=2, seed=[1, 2, 3])
    with pytest.raises(ValueError, match=r"shape \(1, 2\): give \[1, 3\]"):
        greedy(lm).step(mx.zeros((1, 2), mx.int32))
    gen = greedy(lm, batch_size=2)
    with pytest.raises(ValueError, match=r"shape \(1, 3\): give \[2, 3\]"):
        gen.step(mx.zeros((1, 3), mx.int32))


def test_a_new_generator_has_the_memory_of_one_that_is_gone():
    lm = tiny.lm(context=5000)
    gen = LmGen(lm, reserve=True)
    held = gen.nbytes
    assert lm.transformer_cache is gen.cache and held > 1_000_000
    del gen
    gc.collect()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    gen = LmGen(lm, reserve=True)
    assert gen.nbytes == held
    assert mx.get_peak_memory() - before < held / 2
