"""The language model against the NumPy oracle, for all that config.json can say."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.models import Lm
from moshi_mlx.models import lm as lm_module
from moshi_mlx.models.presets import config_helium_1_preview_2b
from moshi_mlx.modules.conditioner import ConditionAttributes, TensorCondition
from tests import tiny
from tests.oracles import LmOracle
from tests.tiny import (
    BASE,
    CONDITIONED,
    GREEDY,
    assert_close,
)

# Each line changes several things that do not touch, so that few models cover all.
CONFIGS: dict[str, dict[str, Any]] = {
    "base": {},
    "plain block, sinusoids, layer norm": {
        "norm": "layer_norm",
        "gating": "none",
        "depformer_gating": "silu",
        "positional_embedding": "sin",
        "hidden_scale": 4,
    },
    "gated width 21/8, grouped heads, both embeddings": {
        "norm": "layer_norm_f32",
        "gating": "gelu",
        "positional_embedding": "sin_rope",
        "hidden_scale": 4,
        "kv_repeat": 2,
        "depformer_dim_feedforward": None,
        "depformer_kv_repeat": 1,
    },
    "split rotation, layer scale, wide": {
        "norm": "rms_norm",
        "gating": "relu",
        "positional_embedding": "rope_concat",
        "layer_scale": 0.1,
        "hidden_scale": 6,
        "kv_repeat": 4,
        "depformer_kv_repeat": 2,
        "max_period": 500,
    },
    "no positions, normed embeddings, biases, few words, late text": {
        "gating": "mish",
        "positional_embedding": "none",
        "norm_emb": True,
        "bias_proj": True,
        "text_card_out": 5,
        "delays": [1, 0, 2, 2, 0, 1, 1],
    },
    "depth: rotated, normed, widths per set, schedule, latest text": {
        "depformer_pos_emb": "rope",
        "depformer_norm": "layer_norm",
        "depformer_dim_feedforward": [128, 96],
        "depformer_weights_per_step_schedule": [0, 1, 1],
        "depformer_max_period": 50,
        "delays": [2, 0, 1, 1, 1, 0, 1],
    },
    "depth: one set of weights, one input, plain, sinusoids": {
        "depformer_weights_per_step": False,
        "depformer_multi_linear": False,
        "depformer_gating": "none",
        "depformer_pos_emb": "sin",
        "delays": [0, 1, 1, 1, 1, 1, 1],
    },
    "depth: one set of weights, an input each": {
        "depformer_weights_per_step": False,
        "depformer_pos_emb": "sin_rope",
        "depformer_norm": "rms_norm",
        "gating": "elu",
    },
    "depth: a set each, one input, low rank, grouped": {
        "depformer_multi_linear": False,
        "depformer_pos_emb": "rope_concat",
        "depformer_kv_repeat": 2,
        "depformer_low_rank_embeddings": 4,
        "depformer_norm": "layer_norm_f32",
        "norm_emb": True,
        "gating": "leaky_relu",
    },
    "two multiplexed text streams": {
        "demux_second_stream": True,
        "depformer_low_rank_embeddings": 4,
        "depformer_layer_scale": 0.2,
        "depformer_gating": "sigmoid",
        "gating": "identity",
    },
    "single heads, no delays": {
        "num_heads": 1,
        "depformer_num_heads": 1,
        "depformer_norm": "rms_norm_f32",
        "gating": "tanh",
        "delays": [0] * 7,
    },
    "no depth transformer": {"dep_q": 0, "gating": "softsign"},
}
STEPS = 17  # past two windows
pytestmark = pytest.mark.usefixtures("uncompiled")


def check(
    c: dict[str, Any],
    lm: Lm,
    oracle: LmOracle,
    conditions: tuple = (),
    wanted: tuple = ((None, None),) * 2,
) -> None:
    codes = tiny.codes(c, 2, STEPS, missing=0.15)
    out = lm.teacher_forced(codes, *conditions)
    for b in range(2):
        expected = oracle.teacher_forced(np.array(codes[b]), *wanted[b])
        text, text_mask, audio, audio_mask = expected
        assert_close(out.text_logits[b, 0], mx.array(text.astype(np.float32)))
        assert np.array_equal(np.array(out.text_mask[b, 0]), text_mask)
        if not c["dep_q"]:
            assert out.audio_logits is None and out.audio_mask is None
            continue
        assert out.audio_logits is not None and out.audio_mask is not None
        assert_close(out.audio_logits[b], mx.array(audio.astype(np.float32)), 2e-5)
        assert np.array_equal(np.array(out.audio_mask[b]), audio_mask)


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_of_a_given_sequence_are_the_oracle_s(name: str):
    c = {**BASE, **CONFIGS[name]}
    weights = tiny.pytorch_weights(c)
    check(c, tiny.load(c, weights), LmOracle(c, weights))


@pytest.mark.parametrize("layer_scale", [None, 0.3])
@pytest.mark.parametrize("scale", [0, 0.5, 1])
def test_conditions_are_the_oracle_s(layer_scale: float | None, scale: float):
    fuser = {**CONDITIONED["fuser"], "cross_attention_pos_emb_scale": scale}
    c = {**BASE, **CONDITIONED, "fuser": fuser, "layer_scale": layer_scale}
    weights = tiny.pytorch_weights(c)
    lm, oracle = tiny.load(c, weights), LmOracle(c, weights)
    rng = np.random.default_rng(0)
    given, wanted = [], []
    for mood, mask in (("glad", [1, 1, 0]), (None, [1, 0, 0])):
        voice = rng.standard_normal((3, 5)).astype(np.float32)
        condition = TensorCondition(mx.array(voice[None]), mx.array([mask]))
        given.append(ConditionAttributes({"mood": mood}, {"voice": condition}))
        wanted.append(oracle.fuse({"mood": mood, "voice": (voice, np.array(mask))}))
    assert lm.condition_provider is not None
    check(c, lm, oracle, lm.condition_provider.fuse(given), tuple(wanted))


def test_chunks_of_a_long_given_sequence_join_without_a_seam(
    monkeypatch: pytest.MonkeyPatch,
):
    lm = tiny.lm()
    codes = tiny.codes(BASE, 2, 23, missing=0.1)
    whole = lm.teacher_forced(codes)
    monkeypatch.setattr(lm_module, "CHUNK", 5)
    parts = lm.teacher_forced(codes)
    assert_close(parts.text_logits, whole.text_logits)
    assert parts.audio_logits is not None and whole.audio_logits is not None
    assert_close(parts.audio_logits, whole.audio_logits)


@pytest.mark.parametrize("name", CONFIGS)
def test_generation_takes_the_likeliest_token_of_teacher_forcing(name: str):
    """Frame by frame is the same as the whole sequence: feed it what it said."""
    lm = tiny.lm(**CONFIGS[name])
    frames = tiny.heard(lm, 2, STEPS)
    said: list[mx.array] = []
    gen = tiny.greedy(lm, batch_size=2)
    if lm.dep_q:
        gen.on_audio_hook = lambda x: said.append(mx.array(x))
    text = [gen.step(frames[:, :, t])[0] for t in range(STEPS)]
    own = mx.stack(text, axis=2)
    if said:
        own = mx.concatenate([own, mx.concatenate(said, axis=2)], axis=1)
    delays = [lm.cfg.text_delay, *lm.delays]
    late = max(delays)
    # Call t samples the token of step t - delay, and the frame of call t is step t - 1.
    streams = [own[:, k, delays[k] :] for k in range(1 + lm.dep_q)]
    streams += [frames[:, k, 1:] for k in range(frames.shape[1])]
    steps = STEPS - late - 1
    codes = mx.stack([stream[:, :steps] for stream in streams], axis=1)
    out = lm.teacher_forced(codes)
    # Before, a depth step is told what was sampled, not the initial token that stays.
    sure = slice(late, steps - late)
    assert steps - 2 * late >= 10
    likeliest = mx.argmax(out.text_logits, axis=-1)
    assert mx.array_equal(likeliest[..., sure], codes[:, :1, sure])
    if out.audio_logits is not None:
        likeliest = mx.argmax(out.audio_logits, axis=-1)
        assert mx.array_equal(likeliest[..., sure], codes[:, 1 : 1 + lm.dep_q, sure])


def test_teacher_forcing_names_a_wrong_number_of_streams():
    with pytest.raises(ValueError, match="got 4 streams: the model has 7, text first"):
        tiny.lm().teacher_forced(mx.zeros((1, 4, 5), mx.int32))


def helium() -> Lm:
    cfg = config_helium_1_preview_2b()
    for field, value in (("d_model", 32), ("num_heads", 4), ("num_layers", 2)):
        setattr(cfg.transformer, field, value)
    cfg.transformer.dim_feedforward = 128
    cfg.transformer.context = 8
    cfg.text_in_vocab_size = cfg.text_out_vocab_size = 50
    mx.random.seed(0)
    return Lm(cfg)


def test_a_text_model_reads_a_prompt_in_parts_as_it_does_whole():
    lm = helium()
    prompt = mx.random.randint(0, 50, (1, 20))
    whole = lm(prompt)
    assert whole.shape == (1, 20, 50)
    for layer in lm.transformer_cache:
        assert layer.self_attn.offset == 20
        layer.reset()
    parts = [lm(prompt[:, :7]), lm(prompt[:, 7:8]), lm(prompt[:, 8:])]
    assert_close(mx.concatenate(parts, axis=1), whole)
    lm.expose_cache(lm.transformer.make_cache())
    hidden, logits = lm.forward_text(prompt)
    assert hidden.shape == (1, 20, 32)
    assert mx.array_equal(logits, whole)


def test_the_exposed_cache_is_that_of_the_newest_generator():
    lm = tiny.lm()
    frames = tiny.heard(lm, 1, 3)
    default = lm.transformer_cache
    first = tiny.greedy(lm)
    assert lm.transformer_cache is first.cache is not default
    tiny.run(first, frames)
    assert lm.transformer_cache[0].self_attn.offset == 3
    second = tiny.greedy(lm)
    assert lm.transformer_cache is second.cache
    assert [layer.self_attn.offset for layer in lm.transformer_cache] == [0, 0]
    assert first.cache[0].self_attn.offset == 3


@pytest.mark.parametrize("orientation", [lambda x: x, lambda x: x.swapaxes(0, 1)])
def test_sample_is_a_step_without_delays(orientation):
    lm = tiny.lm(delays=[0] * 7)
    frames = tiny.heard(lm, 1, 6)
    gen = tiny.greedy(lm)
    texts = [gen.step(frames[:, :, t])[0] for t in range(6)]
    lm.expose_cache(lm.transformer.make_rot_cache())
    text, own = mx.array([[BASE["text_card"]]]), None
    other = mx.full((1, 3), BASE["card"])
    for t in range(6):
        streams = [mx.full((1, 3), BASE["card"]) if own is None else own[..., 0], other]
        audio = mx.concatenate(streams, axis=1)
        text, own = lm.sample(
            text,
            [orientation(audio[:, k : k + 1]) for k in range(6)],
            GREEDY,
            GREEDY,
        )
        assert own is not None
        assert text.tolist() == texts[t].tolist()
        if t < 5:
            other = frames[:, :, t + 1]
    last = gen.last_audio_tokens()
    assert own is not None and last is not None
    assert own[..., 0].tolist() == last.tolist()


def test_sample_s_hooks_edit_in_place():
    lm = tiny.lm()

    def text_hook(x: mx.array) -> None:
        x[:] = 7

    def audio_hook(x: mx.array) -> None:
        x[:, 1] = 5

    start = mx.array([[BASE["text_card"]]])
    audio = [mx.array([[BASE["card"]]])] * 6
    text, own = lm.sample(
        start, audio, GREEDY, GREEDY, on_text_hook=text_hook, on_audio_hook=audio_hook
    )
    assert text.tolist() == [[7]]
    assert own is not None and own[0, 1, 0].item() == 5
    lm = tiny.lm(dep_q=0, delays=[0] * 7)
    assert lm.sample(start, audio, GREEDY, GREEDY)[1] is None


def test_warm_up_leaves_no_trace():
    lm = tiny.lm(**CONDITIONED)
    assert lm.condition_provider is not None
    ct = lm.condition_provider.condition_tensor("mood", "glad")
    exposed = lm.transformer_cache
    lm.warmup(ct)
    lm.warmup()
    assert lm.transformer_cache is exposed
    assert exposed[0].self_attn.offset == 0
