"""Frames that are given: said as given, and read alike one by one or at once."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.models import Lm, LmGen
from moshi_mlx.models.ready import FastDepFormer
from moshi_mlx.utils.sampling import Sampler
from tests import tiny
from tests.tiny import assert_close, greedy, heard

SAMPLED = {"text_sampler": Sampler(top_k=20), "audio_sampler": Sampler(1.0, 0.9)}
T = 20  # past two windows


def codes_for(lm: Lm, b: int = 1, t: int = T, seed: int = 0) -> mx.array:
    """Random streams ``[B, 1 + n_q, T]``, text first."""
    cfg = lm.cfg
    rng = np.random.default_rng(seed)
    text = rng.integers(0, cfg.text_in_vocab_size - 1, (b, 1, t))
    audio = rng.integers(0, cfg.audio_vocab_size - 1, (b, cfg.audio_codebooks, t))
    return mx.array(np.concatenate([text, audio], axis=1).astype(np.int32))


def split(lm: Lm, codes: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """Text ``[B, T]``, own and other codes."""
    own = 1 + lm.dep_q
    return codes[:, 0], codes[:, 1:own], codes[:, own:]


def test_forced_frames_are_read_as_teacher_forcing_reads_them():
    """Every text logit, with all streams given and delayed as they should be."""
    lm = tiny.lm()
    codes = codes_for(lm)
    text, own, other = split(lm, codes)
    gen, logits = greedy(lm), []
    gen.force(text, own)
    for t in range(T):
        frame = other[:, :, t - 1] if t else mx.zeros((1, 3), mx.int32)
        said, hidden = gen.step(frame)
        assert said.item() == text[0, t].item()
        logits.append(lm.text_logits(hidden))
    wanted = lm.teacher_forced(codes).text_logits[:, 0]
    assert_close(mx.concatenate(logits, axis=1), wanted)


@pytest.mark.parametrize("free", [0, 1, 2])
def test_a_code_left_to_the_model_is_drawn_knowing_the_given_ones(free: int):
    """One own stream of three is free: its tokens are teacher forcing's likeliest."""
    lm = tiny.lm(delays=[0] * 7)
    codes = codes_for(lm)
    text, own, other = split(lm, codes)
    given = np.array(own)
    given[:, free] = -2
    gen, found = greedy(lm), []
    logits = lm.teacher_forced(codes).audio_logits
    assert logits is not None
    for t in range(T):
        frame = other[:, :, t - 1] if t else mx.zeros((1, 3), mx.int32)
        gen.force(text[:, t : t + 1], given[:, :, t : t + 1])
        kept = gen.snapshot()
        gen.step(frame)
        found.append(gen.streams.tokens[0, 1 + free, (t + 1) % 2].item())
        gen.restore(kept)  # and go on with the whole frame of teacher forcing
        gen.streams.given.clear(0)
        gen.force(text[:, t : t + 1], own[:, :, t : t + 1])
        gen.step(frame)
    assert found == mx.argmax(logits[0, free], axis=-1).tolist()


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "plain": ({}, {}, 1),
    "rows": ({}, {}, 3),
    "guided": ({}, {"cfg_coef": 2.0, "cfg_is_masked_until": [4, 9]}, 2),
    "no_text": ({}, {"cfg_coef": 2.0, "cfg_is_no_text": True}, 1),
    "reserved": ({}, {"reserve": True}, 1),
    "quantised": ({"dim": 64, "num_heads": 2}, {"kv_bits": 8}, 1),
    "penalised": ({}, {"repetition_penalty": 1.4}, 1),
    "long_delays": ({"delays": [1, 0, 3, 2, 0, 4, 1]}, {}, 1),
    "wide": ({"context": 40}, {}, 1),
}


def generator(lm: Lm, b: int, options: dict[str, Any]) -> LmGen:
    return LmGen(lm, batch_size=b, seed=list(range(b)), **SAMPLED, **options)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("before", [0, 1, 9])
def test_a_prefill_is_as_stepping(case: str, before: int):
    """Streams and random state to the bit; the tokens that follow are the same."""
    model, options, b = CASES[case]
    lm = tiny.lm(**model)
    text, own, other = split(lm, codes_for(lm, b))
    frames = heard(lm, b, before + 12, seed=3)
    gens = [generator(lm, b, options) for _ in range(2)]
    for gen in gens:
        for t in range(before):
            gen.step(frames[:, :, t])
        gen.force(text, own)
    steps = [gens[0].step(other[:, :, t])[0] for t in range(T)]
    late = lm.cfg.text_delay
    said = mx.concatenate(steps[late:], axis=1)
    assert mx.array_equal(said, text[:, : T - late])
    gens[1].prefill(other)
    for one, two in zip(*[gen.cache for gen in gens], strict=True):
        assert one.self_attn.offset == two.self_attn.offset == before + T
    assert mx.array_equal(gens[0].streams.tokens, gens[1].streams.tokens)
    last = [gen.last_audio_tokens() for gen in gens]
    assert last[0] is not None and last[1] is not None
    assert mx.array_equal(last[0], last[1])
    for t in range(before, before + 12):
        found = [gen.step(frames[:, :, t]) for gen in gens]
        tolerance = 1e-5 if case != "quantised" else 0.02
        assert_close(found[1][1], found[0][1], tolerance)
        assert mx.array_equal(found[0][0], found[1][0])
        assert mx.array_equal(gens[0].streams.tokens, gens[1].streams.tokens)


def test_rows_are_given_frames_of_their_own():
    """One row is prefilled while the other stands still, in the middle of its talk."""
    lm = tiny.lm()
    text, own, other = split(lm, codes_for(lm, 2))
    frames, last = heard(lm, 2, 24, seed=5), [True, True]
    gens = [generator(lm, 2, {}) for _ in range(2)]
    for gen in gens:
        for t in range(9):
            gen.step(frames[:, :, t], active=[True, t > 4])
        gen.force(text[1:], own[1:], rows=[1])
    for t in range(T):
        gens[0].step(other[:, :, t], active=[False, True])
    gens[1].prefill(other, active=[False, True])
    for gen in gens:
        assert gen.streams.offsets == [9, 4 + T]
    for t in range(9, 24):
        found = [gen.step(frames[:, :, t], active=last) for gen in gens]
        assert mx.array_equal(found[0][0], found[1][0])
        assert mx.array_equal(gens[0].streams.tokens, gens[1].streams.tokens)


def test_a_prefill_takes_few_calls_of_the_networks(monkeypatch):
    """The depth transformer rests; the temporal one reads in pieces."""
    lm = tiny.lm(context=64)
    text, own, other = split(lm, codes_for(lm, 1, 40))
    gen, lengths, depth = greedy(lm), [], []
    network = lm.ready()
    real, frame = type(network).hidden, FastDepFormer.__call__

    def hidden(self: Lm, text: mx.array, *rest: Any) -> mx.array:
        lengths.append(text.shape[1])
        return real(self, text, *rest)

    def counted(self: FastDepFormer, *args: Any, **options: Any) -> list[mx.array]:
        depth.append(args[3])
        return frame(self, *args, **options)

    monkeypatch.setattr(type(network), "hidden", hidden)
    monkeypatch.setattr(FastDepFormer, "__call__", counted)
    gen.force(text, own)
    gen.prefill(other)
    assert lengths == [40] and depth == []
    gen.force(text[:, :4])  # codes are left to the model
    gen.prefill(other[:, :, :4])
    assert lengths == [40, 1, 1, 1, 1]
    assert depth == [1, 2, 3, 3]  # delayed codes of the last frame were still known


def test_text_alone_may_be_given():
    lm = tiny.lm()
    gen, free = greedy(lm), greedy(lm)
    frames = heard(lm, 1, 8)
    gen.force(text=np.array([[-2, 5, -2, 7]]))
    said = [gen.step(frames[:, :, t])[0].item() for t in range(8)]
    assert said[1] == 5 and said[3] == 7
    assert said[0] == free.step(frames[:, :, 0])[0].item()


def test_hooks_see_what_is_drawn_and_nothing_else():
    lm = tiny.lm()
    seen: list[str] = []
    gen = greedy(
        lm,
        on_text_hook=lambda _: seen.append("text"),
        on_audio_hook=lambda _: seen.append("audio"),
    )
    text, own, other = split(lm, codes_for(lm))
    gen.force(text[:, :4], own[:, :, :4])
    for t in range(4):
        gen.step(other[:, :, t])
    assert seen == []
    gen.step(other[:, :, 4])
    assert seen == ["text", "audio"]


def test_a_reset_row_forgets_what_it_was_given():
    lm = tiny.lm()
    text, own, other = split(lm, codes_for(lm, 2))
    gen = greedy(lm, batch_size=2)
    gen.force(text, own)
    gen.reset([1])
    said = gen.step(other[:, :, 0])[0]
    alone = greedy(lm).step(other[1:, :, 0])[0]
    assert said.tolist() == [[text[0, 0].item()], alone[0].tolist()]


def test_frames_of_another_shape_or_vocabulary_are_refused():
    lm = tiny.lm()
    gen = greedy(lm)
    with pytest.raises(ValueError, match=r"text was given in the shape \[2, 3\]: give"):
        gen.force(text=np.zeros((2, 3)))
    with pytest.raises(
        ValueError, match=r"own was given in .*: give it as \[1, 3, 4\]"
    ):
        gen.force(own=np.zeros((1, 2, 4)))
    with pytest.raises(
        ValueError, match="stream 0 was given the token 41: give 0 to 40"
    ):
        gen.force(text=[[41]])
    with pytest.raises(
        ValueError, match="stream 2 was given the token -3: give 0 to 24"
    ):
        gen.force(own=[[[0], [-3], [0]]])
    with pytest.raises(ValueError, match="prefill got tokens of shape"):
        gen.prefill(np.zeros((1, 1, 5)))


def test_what_prefill_predicts_is_what_stepping_would_have_said():
    """In every call, with each call's noise."""
    lm = tiny.lm()
    text, own, other = split(lm, codes_for(lm, b=2))
    said: list[Any] = []
    stepped, at_once = (generator(lm, 2, {}) for _ in "ab")

    def replace(tokens: mx.array) -> None:
        said.append(tokens[:, 0].tolist())
        tokens[:] = text[:, len(said) - 1 : len(said)]

    stepped.on_text_hook = replace
    stepped.force(own=own)
    for t in range(T):
        stepped.step(other[:, :, t])
    at_once.force(text, own)
    predicted = at_once.prefill(other, predict=True)
    assert predicted is not None and predicted.shape == (2, T)
    assert predicted.swapaxes(0, 1).tolist() == said
    stepped.on_text_hook = None
    for gen in (stepped, at_once):
        gen.stop_forcing()
    for _ in range(5):
        a, b = (gen.step(other[:, :, 0])[0] for gen in (stepped, at_once))
        assert a.tolist() == b.tolist()


@pytest.mark.parametrize("at_once", [False, True])
def test_frames_without_a_code_are_known_to_be_without_it(at_once: bool):
    """Known on the host, and never too late: also while delays bring it out."""
    lm = tiny.lm()
    text, own, other = split(lm, codes_for(lm, t=12))
    given = np.array(own)
    given[:, 1, 4] = given[:, 2, 11] = -1
    gen, missing = LmGen(lm, seed=0), []
    gen.force(text, given)
    if at_once:
        gen.prefill(other)
    for t in range(0 if at_once else 12):
        gen.step(other[:, :, t])
        missing.append(_misses_a_code(gen))
    for _ in range(6):
        gen.step(other[:, :, 0])
        missing.append(_misses_a_code(gen))
    assert any(missing) and not missing[-1]
    other_gen = LmGen(lm, seed=0)
    other_gen.restore(gen.snapshot())
    other_gen.step(other[:, :, 0])
    assert not other_gen.streams.is_spoken(0)  # it does not know what came before
    for _ in range(lm.cfg.max_delay + 1):
        other_gen.step(other[:, :, 0])
    assert other_gen.streams.is_spoken(0)


def _misses_a_code(gen: LmGen) -> bool:
    """Whether the newest completed frame has a -1; then it is not called spoken."""
    found = gen.last_audio_tokens()
    if found is None:
        assert not gen.streams.completes(0)
        return False
    misses = bool((np.array(found) < 0).any())
    assert gen.streams.completes(0)
    assert not (misses and gen.streams.is_spoken(0))
    return misses
