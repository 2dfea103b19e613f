"""A row of a batch says what it would say alone."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map

from moshi_mlx.engines.duplex.rows import RowGen, RowSampler, Sampling
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.generate import LmGen
from moshi_mlx.models.lm import Lm
from moshi_mlx.utils.sampling import Sampler

CONFIG = {
    "dim": 32,
    "num_heads": 2,
    "num_layers": 2,
    "hidden_scale": 4.125,
    "context": 12,
    "max_period": 10000,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    "causal": True,
    "text_card": 40,
    "existing_text_padding_id": 3,
    "card": 24,
    "n_q": 6,
    "dep_q": 3,
    "delays": [0, 0, 1, 1, 0, 1, 1],
    "depformer_dim": 16,
    "depformer_num_heads": 2,
    "depformer_num_layers": 1,
    "depformer_dim_feedforward": 32,
    "depformer_multi_linear": True,
    "depformer_weights_per_step": True,
    "depformer_pos_emb": "none",
    "depformer_context": 4,
}
STRANGERS = [
    Sampling(Sampler(0.7, top_k=8), Sampler(0.9, top_k=12), seed=5),
    Sampling(Sampler(0.0), Sampler(0.8, top_p=0.95), seed=6),
    Sampling(Sampler(1.0, top_k=8), Sampler(0.0), 7, 1.6, 5),
]


@pytest.fixture(scope="module")
def lm() -> Lm:
    mx.set_default_device(mx.cpu)
    mx.random.seed(1)
    model = Lm(LmConfig.from_config_dict(CONFIG))
    # Wide enough that its answers depend on what it hears.
    model.update(tree_map(lambda w: 3 * w if w.ndim > 1 else w, model.parameters()))
    mx.eval(model.parameters())
    return model


def heard(stranger: int, step: int) -> mx.array:
    return mx.random.randint(0, 24, (3,), key=mx.random.key(100 * stranger + step))


def alone(lm: Lm, stranger: int, steps: int) -> list[list[int]]:
    """Text and audio tokens of a conversation of its own."""
    sampling = STRANGERS[stranger]
    gen = LmGen(
        lm,
        text_sampler=sampling.text,
        audio_sampler=sampling.audio,
        seed=sampling.seed,
        repetition_penalty=sampling.repetition_penalty,
        repetition_context=sampling.repetition_context,
    )
    said = []
    for step in range(steps):
        text, _ = gen.step(heard(stranger, step)[None])
        said.append(tokens_of(gen, text, 0))
    return said


def tokens_of(gen: LmGen, text: mx.array, row: int) -> list[int]:
    audio = gen.last_audio_tokens()
    codes = [-2] * 3 if audio is None else np.array(audio[row]).tolist()
    return [np.array(text)[row, 0], *codes]


def test_strangers_in_a_batch_say_what_each_says_alone(lm):
    """Rows begin late, pause and end; each has samplers and a seed of its own."""
    gen = RowGen(lm, 3)
    begins, pauses = [0, 4, 9], [range(6, 9), range(12, 13), range(20, 25)]
    said: list[list[list[int]]] = [[], [], []]
    for call in range(50):
        active = [
            call >= begins[r] and call not in pauses[r] and len(said[r]) < 30
            for r in range(3)
        ]
        if not any(active):
            break
        for r in range(3):
            if call == begins[r]:
                gen.begin(r, STRANGERS[r])
        frames = [
            heard(r, len(said[r])) if active[r] else mx.zeros((3,), mx.int32)
            for r in range(3)
        ]
        text, _ = gen.step(mx.stack(frames), active=active)
        for r in range(3):
            if active[r]:
                said[r].append(tokens_of(gen, text, r))
    for r in range(3):
        assert said[r] == alone(lm, r, len(said[r])), f"row {r}"
        assert len(said[r]) == 30
        assert len({tuple(s) for s in said[r]}) > 5, "the model repeats itself"


def test_a_row_that_begins_anew_forgets_its_stranger(lm):
    gen = RowGen(lm, 2)
    for r in range(2):
        gen.begin(r, STRANGERS[r])
    for step in range(15):
        gen.step(mx.stack([heard(r, step) for r in range(2)]))
    gen.begin(1, STRANGERS[2])
    said = []
    for step in range(15):
        text, _ = gen.step(mx.stack([heard(0, 15 + step), heard(2, step)]))
        said.append(tokens_of(gen, text, 1))
    assert said == alone(lm, 2, 15)


def test_each_row_is_drawn_by_its_own_sampler():
    samplers = [Sampler(0.8, top_k=4), Sampler(0.0), Sampler(0.8, top_k=4)]
    logits, noise = mx.random.normal((3, 1, 9)), mx.random.gumbel((3, 1, 6))
    tokens, probs = RowSampler(samplers)(logits, noise)
    assert tokens.shape == (3, 1) and probs.shape == (3, 1, 9)
    for row, sampler in enumerate(samplers):
        own = noise[row : row + 1, :, :4] if sampler.temp else None
        expected, _ = sampler(logits[row : row + 1], own)
        assert tokens[row].item() == expected[0].item()


def test_samplers_of_a_batch_draw_tied_bfloat16_tokens_alike():
    """Every token of a tie has its chance, whichever sampler draws a row."""
    samplers = [Sampler(1.0, top_k=6), Sampler(1.0, top_p=0.99), Sampler(0.7, top_k=6)]
    values = [0.0, 2.0, 2.0, -9.0, 2.0, 0.0, 1.0, -9.0]
    logits = mx.broadcast_to(mx.array(values, dtype=mx.bfloat16), (3, 1, 8))
    draw, counts = RowSampler(samplers), np.zeros((3, 8))
    noise = mx.random.gumbel((3000, 3, 1, 8), key=mx.random.key(3))
    for one in noise:
        tokens = np.array(draw(logits, one)[0])[:, 0]
        counts[np.arange(3), tokens] += 1
    for row, sampler in enumerate(samplers):
        kept = np.where(
            np.array(values) > -9, np.exp(np.array(values) / sampler.temp), 0
        )
        wanted = 3000 * kept / kept.sum()
        spread = ((counts[row] - wanted)[kept > 0] ** 2 / wanted[kept > 0]).sum()
        assert spread < 5 + 6 * 10**0.5
        assert counts[row][kept == 0].sum() == 0


def test_a_penalty_leads_a_voice_out_of_its_loop_and_others_stay_as_they_are(lm):
    """Greedily a small model repeats its codes; with a penalty no code comes back
    within the frames that count, and the neighbour's are what they are without."""
    greedy = Sampler(temp=0)
    plain = Sampling(greedy, greedy, seed=0)
    penalised = replace(plain, audio_repetition_penalty=100.0)

    def codes(samplings: list[Sampling]) -> list[np.ndarray]:
        gen = RowGen(lm, len(samplings))
        for row, sampling in enumerate(samplings):
            gen.begin(row, sampling)
        said = []
        for _ in range(12):
            other = mx.zeros((len(samplings), lm.cfg.other_codebooks), mx.int32)
            gen.step(other)
            audio = gen.last_audio_tokens()
            if audio is not None:
                said.append(np.array(audio))
        rows = range(len(samplings))
        return [np.stack([frame[row] for frame in said]) for row in rows]

    alone, both = codes([plain]), codes([plain, penalised])
    assert (alone[0] == both[0]).all()
    fewest = [len(set(column)) for column in both[0].T]
    most = [len(set(column)) for column in both[1].T]
    assert sum(most) > sum(fewest) and len(both[1]) - min(most) <= 1
    assert (codes([penalised])[0] == both[1]).all()
