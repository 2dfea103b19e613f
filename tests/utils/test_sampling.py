"""Samplers: what they leave, how often they draw it, and on whom a draw depends."""

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.engines.duplex.rows import RowGen, Sampling
from moshi_mlx.errors import ConfigError
from moshi_mlx.models import Lm, LmGen
from moshi_mlx.utils.sampling import (
    RowNoise,
    Sampler,
    TokenSampler,
    penalise_repeats,
)
from tests import tiny
from tests.tiny import number

V = 12
LOGITS = mx.array(np.random.default_rng(3).standard_normal(V).astype(np.float32) * 2)
DRAWS = 20_000


def softmax(logits: np.ndarray, temp: float) -> np.ndarray:
    e = np.exp((logits - logits.max()) / temp)
    return e / e.sum()


def distribution(sampler: Sampler, logits: np.ndarray) -> np.ndarray:
    """What a sampler draws from: filtered and renormalised, ties at the edge kept."""
    probs = softmax(logits, sampler.temp)
    order = np.argsort(-probs)
    kept = order
    if sampler.top_k:
        kept = order[: sampler.top_k]
    elif 0 < sampler.top_p < 1:
        before = np.cumsum(probs[order]) - probs[order]
        kept = order[before < sampler.top_p]
    elif sampler.min_p > 0:
        count = int((probs >= sampler.min_p * probs.max()).sum())
        kept = order[: max(count, sampler.min_tokens_to_keep)]
    filtered = np.zeros(logits.size)
    if not sampler.top_k:
        kept = np.flatnonzero(probs >= probs[kept].min())
    filtered[kept] = probs[kept]
    return filtered / filtered.sum()


def expected(sampler: Sampler) -> np.ndarray:
    return distribution(sampler, np.array(LOGITS, dtype=np.float64))


@pytest.mark.parametrize(
    "sampler",
    [
        Sampler(),
        Sampler(top_p=0),
        Sampler(top_p=1),
        Sampler(temp=1.7, top_p=0),
        Sampler(temp=0.3, top_p=0),
        Sampler(top_p=0.6),
        Sampler(top_p=0.01),
        Sampler(temp=1.5, top_p=0.9),
        Sampler(top_k=0),  # off
        Sampler(top_k=1),
        Sampler(top_k=4),
        Sampler(top_k=V),
        Sampler(top_k=250),  # above the vocabulary
        Sampler(top_k=4, top_p=0.01, min_p=0.9),  # top_k goes first
        Sampler(top_p=0, min_p=0.2),
        Sampler(top_p=0, min_p=0.2, temp=1.5),
        Sampler(top_p=1, min_p=0.9, min_tokens_to_keep=3),
        Sampler(top_p=0.6, min_p=0.99),  # then top_p
    ],
    ids=str,
)
def test_draws_follow_the_filtered_distribution(sampler: Sampler):
    logits = mx.broadcast_to(LOGITS, (DRAWS, V))
    tokens, _ = sampler(logits)
    assert tokens.dtype == mx.int32
    counts = np.bincount(np.array(tokens), minlength=V)
    wanted = expected(sampler)
    assert (counts[wanted == 0] == 0).all()
    spread = np.sqrt(wanted * (1 - wanted) / DRAWS)
    assert (np.abs(counts / DRAWS - wanted) <= 5 * spread + 1e-9).all()
    assert (counts[wanted > 1e-3] > 0).all()


TIED_V = 600
TIED_DRAWS = 30_000
TIED = (mx.random.normal((TIED_V,), key=mx.random.key(5)) * 2).astype(mx.bfloat16)


def tied_logits(keep: int) -> mx.array:
    """bfloat16 logits, many of them equal, with a step after the ``keep`` likeliest."""
    values = np.array(TIED.astype(mx.float32))
    values[np.argsort(-values, kind="stable")[keep:]] -= 1.0
    return mx.array(values).astype(mx.bfloat16)


def assert_drawn_from(tokens: mx.array, wanted: np.ndarray) -> None:
    """A chi-square test of draws, expected counts below 5 taken together."""
    counts = np.bincount(np.array(tokens).reshape(-1), minlength=wanted.size)
    assert counts[wanted == 0].sum() == 0
    expected_counts = wanted * counts.sum()
    rare = expected_counts < 5
    found = np.append(counts[~rare], counts[rare].sum())
    hoped = np.append(expected_counts[~rare], expected_counts[rare].sum())
    if hoped[-1] == 0:
        found, hoped = found[:-1], hoped[:-1]
    chi_square = ((found - hoped) ** 2 / hoped).sum()
    freedom = hoped.size - 1
    assert chi_square < freedom + 6 * (2 * freedom) ** 0.5


TIED_SAMPLERS = [
    Sampler(0.8, top_k=100),
    Sampler(1.3, top_k=7),
    Sampler(0.8, top_k=TIED_V),
    Sampler(0.8, top_p=0.95),
    Sampler(1.0, top_p=0.5),
    Sampler(0.8, top_p=0),
    Sampler(0.8, top_p=0, min_p=0.02),
    Sampler(0.8, top_p=0, min_p=0.9, min_tokens_to_keep=40),
]


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float32], ids=str)
@pytest.mark.parametrize("sampler", TIED_SAMPLERS, ids=str)
def test_tied_tokens_are_drawn_as_often_as_one_another(
    sampler: Sampler, dtype: mx.Dtype
):
    logits = tied_logits(sampler.top_k or 40)
    exact = np.array(logits.astype(mx.float32)).astype(np.float64)
    assert len(np.unique(exact)) < 0.8 * TIED_V
    wanted = distribution(sampler, exact)
    rows = mx.broadcast_to(logits.astype(dtype), (TIED_DRAWS // 10, TIED_V))
    mx.random.seed(1)
    draws = [sampler(rows)[0] for _ in range(10)]
    assert_drawn_from(mx.stack(draws), wanted)


def test_rows_of_a_batch_draw_tied_tokens_by_their_own_noise():
    logits, sampler = tied_logits(100), Sampler(0.8, top_k=100)
    noise = RowNoise([1, 2, 3])
    draws = []
    for _ in range(40):
        values = noise.draw(250 * 100).reshape(3, 250, 100)
        rows = mx.broadcast_to(logits, (3, 250, TIED_V))
        draws.append(sampler(rows, values)[0])
    exact = np.array(logits.astype(mx.float32)).astype(np.float64)
    wanted = distribution(sampler, exact)
    for row in range(3):
        assert_drawn_from(mx.stack([tokens[row] for tokens in draws]), wanted)


def test_penalised_tokens_are_drawn_as_often_as_they_should_be():
    """A factor per row; tied tokens that were not said keep their chances."""
    logits = mx.broadcast_to(tied_logits(100).astype(mx.float32), (2, 1, TIED_V))
    likeliest = np.argsort(-np.array(logits[0, 0]), kind="stable")
    said = [[int(t) for t in likeliest[:6]], [-1, TIED_V, 3, *likeliest[6:9].tolist()]]
    factors = mx.array([1.5, 3.0])[:, None, None]
    exempt = (int(likeliest[0]), 3)
    lowered = penalise_repeats(logits, mx.array(said), factors, exempt)
    sampler = Sampler(0.8, top_p=0)
    for row, factor in enumerate((1.5, 3.0)):
        wanted = np.array(logits[row, 0]).astype(np.float64)
        for token in said[row]:
            if 0 <= token < TIED_V and token not in exempt:
                value = wanted[token]
                wanted[token] = value / factor if value > 0 else value * factor
        np.testing.assert_allclose(np.array(lowered[row, 0]), wanted, rtol=1e-6)
        rows = mx.broadcast_to(lowered[row, 0], (TIED_DRAWS // 10, TIED_V))
        draws = mx.stack([sampler(rows)[0] for _ in range(10)])
        assert_drawn_from(draws, distribution(sampler, wanted))


def test_top_k_keeps_exactly_k_tokens_when_more_are_tied():
    for k in (1, 4, 50):
        tokens, _ = Sampler(1.0, top_k=k)(mx.zeros((5000, 97)))
        assert len(set(np.array(tokens).tolist())) == k


def test_min_tokens_to_keep_above_the_vocabulary_keeps_all():
    sampler = Sampler(top_p=0, min_p=0.99, min_tokens_to_keep=50)
    assert len(set(np.array(sampler(mx.broadcast_to(LOGITS, (DRAWS, V)))[0]))) > 1


def test_temperature_0_takes_the_likeliest():
    logits = mx.random.normal((5, 1, V))
    for sampler in (Sampler(temp=0), Sampler(temp=0, top_k=3), Sampler(0, 0.1)):
        tokens, _ = sampler(logits)
        assert tokens.tolist() == mx.argmax(logits, axis=-1).tolist()
        assert sampler.noise_size(V) == 0


def test_log_probabilities_are_those_of_the_whole_vocabulary():
    logits = mx.random.normal((3, 2, V))
    _, logprobs = Sampler(top_k=2)(logits)
    total = mx.exp(logprobs).sum(axis=-1)
    assert number(mx.abs(total - 1).max()) < 1e-5
    assert number(mx.abs((logprobs - logits).var(axis=-1)).max()) < 1e-10


@pytest.mark.parametrize("shape", [(V,), (2, V), (2, 1, V), (2, 3, 1, V)])
def test_bias_is_added_to_tokens_whatever_the_batch(shape: tuple[int, ...]):
    logits = mx.random.normal(shape)
    sampler = Sampler(temp=0, logit_bias={7: 100.0, 2: 50.0})
    tokens, logprobs = sampler(logits)
    assert mx.array_equal(tokens, mx.full(shape[:-1], 7))
    assert mx.array_equal(mx.argmax(logprobs, axis=-1), mx.full(shape[:-1], 7))
    never = Sampler(top_p=0, logit_bias={t: -mx.inf for t in range(V) if t != 5})
    assert mx.array_equal(never(logits)[0], mx.full(shape[:-1], 5))


def test_equal_logits_are_all_kept():
    """Ties at the edge of a filter lose nobody to the order of a sort."""
    logits = mx.zeros((4000, V))
    for sampler in (Sampler(top_p=0.95), Sampler(top_p=0, min_p=0.5)):
        assert set(np.array(sampler(logits)[0]).tolist()) == set(range(V))


def test_draws_are_the_argmax_of_logits_and_given_noise():
    logits, noise = mx.random.normal((4, V)), mx.random.gumbel((4, V))
    sampler = Sampler(temp=0.5, top_p=0)
    tokens, _ = sampler(logits, noise)
    assert mx.array_equal(tokens, mx.argmax(logits / 0.5 + noise, axis=-1))


def test_noise_sizes():
    assert Sampler(top_p=0.9).noise_size(V) == V
    assert Sampler(top_k=5).noise_size(V) == 5
    assert Sampler(top_k=50).noise_size(V) == V


def test_mlx_s_seed_makes_draws_repeatable():
    logits = mx.zeros((50, V))
    found = []
    for seed in (1, 1, 2):
        mx.random.seed(seed)
        found.append(Sampler()(logits)[0].tolist())
    assert found[0] == found[1] != found[2]


def test_half_precision_logits():
    logits = mx.broadcast_to(LOGITS, (200, V)).astype(mx.bfloat16)
    for sampler in (Sampler(), Sampler(top_k=4), Sampler(top_p=0, min_p=0.1)):
        allowed = set(np.flatnonzero(expected(sampler)).tolist())
        assert set(np.array(sampler(logits)[0]).tolist()) <= allowed


@pytest.mark.parametrize(
    "options, words",
    [
        ({"temp": -0.1}, "temperature -0.1 is below 0: use 0 or more"),
        ({"temp": float("nan")}, "temperature nan is not a number: use 0 or more"),
        ({"top_p": 1.5}, "top_p 1.5 is not a fraction: use 0 to 1"),
        ({"top_p": -0.5}, "top_p -0.5 is not a fraction"),
        ({"min_p": 2}, "min_p 2 is not a fraction"),
        ({"min_tokens_to_keep": 0}, "min_tokens_to_keep must be at least 1"),
        ({"top_k": -1}, "top_k -1 is not a count: use 0 .all. or more"),
    ],
)
def test_settings_outside_their_range_are_refused(options: dict, words: str):
    with pytest.raises(ConfigError, match=words):
        Sampler(**options)


def test_a_row_s_noise_is_its_seed_s_whatever_its_neighbours():
    batch = RowNoise([5, 6, 7])
    alone = RowNoise([6])
    for _ in range(RowNoise.BLOCK + 3):  # past a block of keys
        found, wanted = batch.draw(4), alone.draw(4)
        assert mx.array_equal(found[1], wanted[0])
        assert not mx.array_equal(found[1], found[0])


def test_rows_that_stand_still_keep_their_noise():
    a, b = RowNoise([5, 6]), RowNoise([5, 6])
    first = a.draw(4)
    assert mx.array_equal(b.draw(4, [True, False])[0], first[0])
    second = b.draw(4)
    assert mx.array_equal(second[1], first[1])
    assert mx.array_equal(second[0], a.draw(4)[0])


def test_a_reseeded_row_starts_anew():
    noise = RowNoise([5, 6])
    first = noise.draw(4)
    noise.draw(4)
    noise.reseed(1, 6)
    again = noise.draw(4)
    assert mx.array_equal(again[1], first[1])
    assert not mx.array_equal(again[0], first[0])


def test_every_draw_is_new():
    noise = RowNoise([0])
    seen = {tuple(noise.draw(2)[0].tolist()) for _ in range(3 * RowNoise.BLOCK)}  # type: ignore
    assert len(seen) == 3 * RowNoise.BLOCK


class TopNSigma:
    """A sampler of one's own: tokens within n standard deviations of the likeliest."""

    def __init__(self, n: float):
        self.n = n

    def noise_size(self, vocab: int) -> int:
        return vocab

    def __call__(
        self, logits: mx.array, noise: mx.array | None = None, /
    ) -> tuple[mx.array, mx.array]:
        least = logits.max(axis=-1, keepdims=True) - self.n * mx.std(
            logits, axis=-1, keepdims=True
        )
        kept = mx.where(logits < least, -mx.inf, logits)
        if noise is None:
            noise = mx.random.gumbel(logits.shape)
        return mx.argmax(kept + noise, axis=-1).astype(mx.int32), logits


def drawn_by(lm: Lm, text: TokenSampler, audio: TokenSampler, seed: int) -> list:
    gen = LmGen(lm, text_sampler=text, audio_sampler=audio, seed=seed)
    return tiny.run(gen, tiny.heard(lm, 1, 10)).tolist()


def test_a_sampler_of_ones_own_draws_wherever_ours_do():
    lm, own = tiny.lm(), TopNSigma(1.0)
    alone = drawn_by(lm, own, own, 3)
    assert alone == drawn_by(lm, TopNSigma(1.0), own, 3) != drawn_by(lm, own, own, 4)
    assert drawn_by(lm, TopNSigma(0.0), TopNSigma(0.0), 3) == drawn_by(
        lm, Sampler(0), Sampler(0), 3
    )
    batch = RowGen(lm, 2)
    batch.begin(0, Sampling(own, own, seed=3))
    batch.begin(1, Sampling(Sampler(0), Sampler(0.9, top_k=4), seed=3))
    found = tiny.run(batch, mx.repeat(tiny.heard(lm, 1, 10), 2, axis=0))
    assert found[:1].tolist() == alone
    assert found[1:].tolist() == drawn_by(lm, Sampler(0), Sampler(0.9, top_k=4), 3)
