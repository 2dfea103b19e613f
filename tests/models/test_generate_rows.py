"""``LmGen``'s state and what a frame costs: rows, seeds, evaluations, memory."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.models import LmGen
from moshi_mlx.utils.sampling import Sampler
from tests import tiny
from tests.tiny import BASE, heard, run

pytestmark = pytest.mark.usefixtures("uncompiled")


def sampled(model: Any, **options: Any) -> LmGen:
    """A generator that draws text and audio in different ways."""
    samplers = {"text_sampler": Sampler(top_k=20), "audio_sampler": Sampler(1.0, 0.9)}
    return LmGen(model, **{**samplers, **options})


def test_interleaved_generators_give_what_separate_ones_give():
    lm = tiny.lm()
    frames = [heard(lm, 1, 20, seed=seed) for seed in (0, 1)]
    separate = [run(sampled(lm, seed=n), frames[n]) for n in (0, 1)]
    gens = [sampled(lm, seed=n) for n in (0, 1)]
    columns: list[list[np.ndarray]] = [[], []]
    for t in range(20):
        for n in (1, 0):
            columns[n].append(run(gens[n], frames[n][:, :, t : t + 1]))
    for n in (0, 1):
        assert np.array_equal(np.concatenate(columns[n], axis=2), separate[n])


@pytest.mark.parametrize("changes", [{}, {"positional_embedding": "sin"}], ids=str)
def test_a_row_s_tokens_do_not_depend_on_its_neighbours(changes: dict[str, Any]):
    lm = tiny.lm(**changes)
    frames = heard(lm, 4, 25)
    whole = run(sampled(lm, batch_size=4, seed=[3, 1, 4, 1]), frames)
    for row, seed in enumerate([3, 1, 4, 1]):
        alone = run(sampled(lm, seed=seed), frames[row : row + 1])
        assert np.array_equal(alone[0], whole[row])


def test_rows_that_pause_and_restart_give_what_they_give_alone():
    """Exactly, token by token, with sampling and a penalty, past several windows."""
    lm = tiny.lm()
    b, rng = 3, np.random.default_rng(0)
    options: dict[str, Any] = {"repetition_penalty": 1.3, "repetition_context": 4}
    batch = sampled(lm, batch_size=b, seed=[10, 20, 30], **options)
    alone = [sampled(lm, seed=seed, **options) for seed in (10, 20, 30)]
    for turn in range(60):
        frames = heard(lm, b, 1, seed=turn)[..., 0]
        active = [bool(on) for on in rng.random(b) < 0.6]
        text, _ = batch.step(frames, active=active)
        found = batch.last_audio_tokens()
        for row in range(b):
            if not active[row]:
                assert found is None or (np.array(found[row]) == -2).all()
                continue
            wanted, _ = alone[row].step(frames[row : row + 1])
            assert text[row].tolist() == wanted[0].tolist()
            expected = alone[row].last_audio_tokens()
            if expected is None:
                assert found is None or (np.array(found[row]) == -2).all()
            else:
                assert found is not None
                assert found[row].tolist() == expected[0].tolist()
        if turn % 9 == 8:
            row = int(rng.integers(b))
            batch.reset([row], seed=turn)
            alone[row] = sampled(lm, seed=turn, **options)


def test_a_reset_generator_is_a_new_one():
    lm = tiny.lm()
    frames = heard(lm, 2, 15)
    gen = sampled(lm, batch_size=2, seed=7, repetition_penalty=1.5)
    first = run(gen, frames)
    gen.reset(seed=7)
    assert gen.step_idx == 0 and gen.last_audio_tokens() is None
    assert np.array_equal(run(gen, frames), first)
    gen.reset()  # its noise goes on
    assert not np.array_equal(run(gen, frames), first)


def test_seeds_and_mlx_s_seed_make_runs_repeatable():
    lm = tiny.lm()
    frames = heard(lm, 1, 15)

    def seeded(seed: int) -> str:
        return str(run(sampled(lm, seed=seed), frames))

    def global_seed(seed: int) -> str:
        mx.random.seed(seed)
        return str(run(sampled(lm), frames))

    assert seeded(1) == seeded(1) != seeded(2)
    assert global_seed(1) == global_seed(1) != global_seed(2)
    mx.random.seed(0)
    two = sampled(lm, batch_size=2)
    found = run(two, mx.repeat(frames, 2, axis=0))
    assert not np.array_equal(found[0], found[1])  # rows draw seeds of their own


def test_every_stream_and_frame_has_noise_of_its_own():
    """Where all tokens are equally likely, two draws agree by chance alone."""
    lm, steps = tiny.lm(delays=[0] * 7, text_card=BASE["card"]), 300
    for head in [lm.text_linear, *(part.linear_out for part in lm.depformer.slices)]:
        head.weight = mx.zeros_like(head.weight)
    flat = Sampler(temp=1, top_p=0)
    gen = LmGen(lm, text_sampler=flat, audio_sampler=flat, seed=0)
    frame = mx.zeros((1, 3), mx.int32)
    drawn = []
    for _ in range(steps):
        text, _ = gen.step(frame)
        audio = gen.last_audio_tokens()
        assert audio is not None
        drawn.append(mx.concatenate([text, audio], axis=1))
    tokens = np.array(mx.concatenate(drawn))
    streams = [*tokens.T, np.roll(tokens[:, 0], 1), np.roll(tokens[:, 1], 1)]
    chance = steps / BASE["card"]
    for i, a in enumerate(streams):
        counts = np.bincount(a, minlength=BASE["card"])
        assert counts.min() > 0 and counts.max() < 4 * chance
        for b in streams[:i]:
            assert (a == b).sum() < 2.5 * chance


class Syncs:
    """Counts what makes the host wait, and what is evaluated when."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.waits: list[str] = []
        self.evaluated: list[tuple[Any, ...]] = []
        for name in ("item", "tolist", "__bool__", "__int__", "__float__", "__array__"):
            self._watch(monkeypatch, mx.array, name)
        for name in ("eval", "synchronize"):
            self._watch(monkeypatch, mx, name)
        real = mx.async_eval

        def async_eval(*arrays: Any) -> None:
            self.evaluated.append(arrays)
            real(*arrays)

        monkeypatch.setattr(mx, "async_eval", async_eval)

    def _watch(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.waits.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"repetition_penalty": 1.2},
        {"batch_size": 2, "active": [True, False]},
        {"cfg_coef": 2.0},
    ],
    ids=str,
)
def test_one_evaluation_a_frame_and_no_waiting(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    lm = tiny.lm(extra_heads_num_heads=2)
    active = options.pop("active", None)
    gen = sampled(lm, seed=0, **options)
    frames = heard(lm, gen.batch_size, 8)
    for t in range(4):  # layers lay out their weights, the ring fills
        gen.step(frames[:, :, t])
    syncs = Syncs(monkeypatch)
    for t in range(4, 8):
        if t % 2:
            text, hidden = gen.step(frames[:, :, t], active=active)
            given: list[mx.array] = [text, hidden]
        else:
            text, heads = gen.step_with_extra_heads(frames[:, :, t], active=active)
            given = [text, *heads]
        audio = gen.last_audio_tokens()
        assert audio is not None
        assert len(syncs.evaluated) == 1
        together = syncs.evaluated.pop()
        for array in [*given, audio]:
            assert any(array is one for one in together)
    assert syncs.waits == []


def test_memory_is_flat_over_many_windows():
    """An hour in small: nothing grows with the steps that were taken."""
    lm = tiny.lm(**tiny.MINIMAL)
    gen = sampled(lm, seed=0, repetition_penalty=1.1)
    frames = heard(lm, 1, 50)
    held = []
    for _ in range(12):
        for t in range(50):
            gen.step(frames[:, :, t])
            mx.eval(gen.last_audio_tokens())
        held.append(mx.get_active_memory())
    assert max(held[2:]) - min(held[2:]) < 4096
    assert gen.step_idx == 600
    assert {layer.self_attn.nbytes for layer in gen.cache} == {2 * 7 * 8 * 4}
