"""config.json is read whole, or refused, or its unknown keys are named."""

import logging
from typing import Any

import mlx.core as mx
import pytest

from moshi_mlx.errors import ConfigError
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.lm import Lm
from moshi_mlx.modules.conditioner import (
    ConditionAttributes,
    LutConditionerConfig,
    TensorCondition,
    TensorConditionerConfig,
)
from tests.released import HIBIKI_ZERO_3B, MOSHI_7B, RELEASED, STT_2_6B, TTS_1_6B
from tests.tiny import BASE, CONDITIONED

Config = dict[str, Any]


def read(**changes: Any) -> LmConfig:
    return LmConfig.from_config_dict({**BASE, **changes})


@pytest.mark.parametrize("name", RELEASED)
def test_released_configs_load_without_a_warning(
    name: str, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        cfg = LmConfig.from_config_dict(RELEASED[name])
    assert not caplog.records
    assert cfg.transformer.norm_eps == 1e-8
    assert cfg.audio_vocab_size == 2049


def test_moshi_7b():
    cfg = LmConfig.from_config_dict(MOSHI_7B)
    main, depth = cfg.transformer, cfg.depformer.transformer
    assert (main.d_model, main.num_heads, main.num_layers) == (4096, 32, 32)
    assert (main.context, main.max_period, main.gated_width) == (3000, 10_000, 11_264)
    assert (main.gating, main.norm) == ("silu", "rms_norm_f32")
    assert (depth.d_model, depth.gated_width, depth.context) == (1024, 2816, 8)
    assert (cfg.text_in_vocab_size, cfg.text_out_vocab_size) == (32_001, 32_000)
    assert (cfg.text_initial_token, cfg.audio_padding_token) == (32_000, 2048)
    assert (cfg.audio_codebooks, cfg.generated_codebooks) == (16, 8)
    assert cfg.other_codebooks == 8
    assert cfg.audio_delays == ([0] + [1] * 7) * 2
    assert (cfg.text_delay, cfg.max_delay, cfg.audio_eos_token) == (0, 1, 2047)


def test_hibiki_zero():
    cfg = LmConfig.from_config_dict(HIBIKI_ZERO_3B)
    main, depth = cfg.transformer, cfg.depformer
    assert (main.kv_repeat, main.positional_embedding) == (2, "rope_concat")
    assert main.gated_width == 8192  # hidden_scale 6
    assert depth.transformer.gated_width == 4096  # and inherited by depth
    assert (depth.transformer.kv_repeat, depth.norm) == (1, "layer_norm")
    assert [depth.weight_set(k) for k in (0, 7, 8, 15)] == [0, 7, 8, 8]
    assert [depth.input_set(k) for k in (0, 7, 8, 15)] == [0, 7, 8, 8]


def test_tts():
    cfg = LmConfig.from_config_dict(TTS_1_6B)
    assert cfg.demux_second_stream and cfg.transformer.cross_attention
    assert cfg.other_codebooks == 0 and cfg.max_delay == 2
    assert cfg.depformer.low_rank_embeddings == 128
    assert not cfg.depformer.transformer.cross_attention
    voice, ratio = cfg.conditioners["speaker_wavs"], cfg.conditioners["cfg"]
    assert voice == TensorConditionerConfig(512, 1.0)
    assert isinstance(ratio, LutConditionerConfig)
    assert (ratio.n_bins, ratio.dim) == (7, 16)
    assert ratio.possible_values is not None
    assert list(ratio.possible_values)[2] == "2.0"


def test_speech_to_text_has_no_depth():
    cfg = LmConfig.from_config_dict(STT_2_6B)
    assert (cfg.generated_codebooks, cfg.other_codebooks) == (0, 32)
    assert cfg.extra_heads_num_heads == 0


@pytest.mark.parametrize(
    "hidden_scale, dim, width", [(4, 64, 168), (4.125, 64, 176), (6, 64, 256)]
)
def test_the_gated_width_is_pytorch_s(hidden_scale: float, dim: int, width: int):
    cfg = read(
        hidden_scale=hidden_scale,
        dim=dim,
        depformer_dim=dim,
        depformer_dim_feedforward=None,
    )
    assert cfg.transformer.gated_width == width
    assert cfg.depformer.transformer.gated_width == width


def test_a_plain_block_is_hidden_scale_wide():
    cfg = read(gating="none", hidden_scale=3)
    assert cfg.transformer.dim_feedforward == 3 * BASE["dim"]
    assert cfg.transformer.gating_dim is None


@pytest.mark.parametrize(
    "norm, eps",
    [
        ("layer_norm", 1e-5),
        ("layer_norm_f32", 1e-8),
        ("rms_norm", 1e-5),
        ("rms_norm_f32", 1e-8),
    ],
)
def test_the_epsilon_is_pytorch_s(norm: str, eps: float):
    cfg = read(norm=norm)
    assert cfg.transformer.norm_eps == cfg.depformer.transformer.norm_eps == eps


def test_left_out_keys_have_pytorch_s_defaults():
    cfg = LmConfig.from_config_dict(
        {"dim": 64, "num_layers": 2, "n_q": 1, "dep_q": 1, "delays": [0, 0]}
        | {"context": 8}
    )
    main, depth = cfg.transformer, cfg.depformer
    assert (main.num_heads, main.dim_feedforward, main.gating) == (8, 256, "none")
    assert (main.norm, main.positional_embedding) == ("layer_norm", "sin")
    assert (main.max_period, main.kv_repeat, main.layer_scale) == (10_000, 1, None)
    assert (depth.transformer.d_model, depth.transformer.num_layers) == (256, 2)
    assert depth.transformer.positional_embedding == "sin"
    assert not depth.multi_linear and not depth.weights_per_step
    assert (cfg.audio_vocab_size, cfg.text_in_vocab_size) == (1025, 32_001)
    assert (cfg.text_padding_token, cfg.text_end_padding_token) == (3, 0)
    assert cfg.conditioners == {}


def test_depth_inherits_what_it_does_not_set():
    cfg = read(layer_scale=0.1, kv_repeat=2, gating="gelu", max_period=77)
    depth = cfg.depformer.transformer
    assert (depth.layer_scale, depth.kv_repeat) == (0.1, 2)
    assert (depth.gating, depth.max_period) == ("gelu", 77)
    cfg = read(layer_scale=0.1, depformer_layer_scale=None, depformer_gating="relu")
    assert cfg.depformer.transformer.layer_scale is None
    assert cfg.depformer.transformer.gating == "relu"


def test_depth_sees_the_whole_frame_whatever_its_context_says():
    assert read(depformer_context=1).depformer.transformer.context == BASE["dep_q"]


def test_widths_per_weight_set():
    cfg = read(
        depformer_dim_feedforward=[128, 96],
        depformer_weights_per_step_schedule=[0, 1, 1],
    )
    widths = [cfg.depformer.slice_transformer(k).gated_width for k in range(3)]
    assert widths == [84, 64, 64]


def test_few_words_out_start_with_the_same_initial_token():
    cfg = read(text_card_out=5)
    assert (cfg.text_out_vocab_size, cfg.text_initial_token) == (5, 40)


def test_padding_tokens_are_the_model_s():
    cfg = read(existing_text_padding_id=7, existing_text_end_padding_id=2)
    assert (cfg.text_padding_token, cfg.text_end_padding_token) == (7, 2)


def test_conditions_that_the_fuser_does_not_name_are_not_fused():
    """As in PyTorch: such a model has their weights and gives them no effect."""
    table = {"type": "lut", "lut": {"n_bins": 2, "dim": 4}}
    entries: Config = {
        "mood": table,
        "name": table,
        "voice": {"type": "tensor", "tensor": {"dim": 3}},
    }
    fuser = {"sum": ["name"], "cross": []}
    made = Lm(read(conditioners=entries, fuser=fuser)).condition_provider
    assert made is not None and set(made.conditioners) == set(entries)
    voice = TensorCondition.from_tensor(mx.ones((1, 2, 3)))
    given = ConditionAttributes({"mood": "a", "name": "b"}, {"voice": voice})
    total, cross = made.fuse([given])
    assert total is not None and cross is None
    assert mx.array_equal(total.tensor, made.condition_tensor("name", "b").tensor)
    null = made.null()
    assert null is not None
    assert mx.array_equal(null.tensor, made.condition_tensor("name", None).tensor)
    everything = Lm(read(conditioners=entries)).condition_provider  # 0.3.0's: no fuser
    assert everything is not None and everything.fuse([given])[1] is not None


def test_the_fuser_orders_conditions_and_scales_their_positions():
    conditioners = {
        name: {"type": "tensor", "tensor": {"dim": 4}} for name in ("a", "b", "c")
    }
    fuser: Config = {"cross": ["c", "a", "b"], "sum": []}
    cfg = read(conditioners=conditioners, fuser=fuser, cross_attention=True)
    assert list(cfg.conditioners) == ["c", "a", "b"]
    assert cfg.conditioners["a"] == TensorConditionerConfig(4, 0.0)
    fuser |= {"cross_attention_pos_emb": True, "cross_attention_pos_emb_scale": 0.5}
    cfg = read(conditioners=conditioners, fuser=fuser, cross_attention=True)
    assert cfg.conditioners["a"] == TensorConditionerConfig(4, 0.5)
    cfg = read(conditioners=conditioners, cross_attention=True)  # 0.3.0's: no fuser
    assert cfg.conditioners["a"] == TensorConditionerConfig(4, 1.0)


def test_configs_are_mutable():
    cfg = read()
    cfg.transformer.max_seq_len = cfg.transformer.context
    cfg.audio_delays = [0] * 6
    assert cfg.transformer.max_seq_len == BASE["context"]
    assert cfg.max_delay == 0


def test_unknown_keys_are_named_once(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        read(sparkle=1, depformer_zest=2)
    assert [record.getMessage() for record in caplog.records] == [
        "config.json has keys that are not read: depformer_zest, sparkle"
    ]


def test_unknown_keys_of_a_stranger_are_shown_on_one_short_line(caplog):
    with caplog.at_level(logging.WARNING):
        read(**{"a\nERROR b": 1, "x" * 5000: 2}, **{f"k{n}": n for n in range(200)})
    (said,) = [record.getMessage() for record in caplog.records]
    assert "\n" not in said and r"'a\nERROR b'" in said and "and 172 more" in said
    assert len(said) < 400


@pytest.mark.parametrize("key", ["dim", "num_layers", "n_q", "dep_q", "delays"])
def test_a_missing_key_is_named(key: str):
    data = {k: v for k, v in BASE.items() if k != key}
    with pytest.raises(ConfigError, match=f"has no '{key}': is it a Moshi config"):
        LmConfig.from_config_dict(data)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"delays": [0, 0]}, "2 delays for 6 codebooks and text: give 7"),
        ({"dep_q": 7}, "dep_q 7 above n_q 6: lower dep_q"),
        ({"causal": False}, "causal false: only causal models can stream"),
        ({"context": None}, "no context: a stream needs a bounded window"),
        ({"gating": "swish"}, "gating 'swish': supported are"),
        ({"norm": "batch_norm"}, "norm 'batch_norm': supported are"),
        ({"positional_embedding": "alibi"}, "positional_embedding 'alibi'"),
        ({"depformer_pos_emb": "alibi"}, "positional_embedding 'alibi'"),
        ({"depformer_norm": "batch_norm"}, "depformer_norm 'batch_norm'"),
        ({"num_heads": 3}, "3 heads .* do not divide a width of 32"),
        ({"depformer_num_heads": 5}, "5 heads .* do not divide a width of 32"),
        ({"positional_scale": 0.5}, "positional_scale 0.5: supported is 1.0"),
        ({"depformer_skip_self_attn": True}, "depformer_skip_self_attn True"),
        ({"norm_emb": True, "demux_second_stream": True}, "norm_emb with demux"),
        (
            {"depformer_weights_per_step_schedule": [0, 1]},
            "schedule has 2 entries for 3 codebooks: give one each",
        ),
        (
            {"depformer_dim_feedforward": [96, 128]},
            "lists 2 widths for 3 sets of weights with gating 'silu': give one each",
        ),
        (
            {"depformer_dim_feedforward": [96] * 3, "depformer_gating": "none"},
            "lists 3 widths for 3 sets of weights with gating 'none'",
        ),
        (
            {"conditioners": {"x": {"type": "wav", "wav": {}}}},
            "conditioner 'x' of type 'wav': supported are",
        ),
        (
            {**CONDITIONED, "fuser": {"cross": ["mood", "voice"]}},
            "conditioner 'mood' of type lut as it is not meant",
        ),
        ({**CONDITIONED, "fuser": {"prepend": ["mood"]}}, r"prepend \['mood'\]"),
        ({"fuser": {"streaming_sum": ["mood"]}}, r"streaming_sum \['mood'\]"),
    ],
)
def test_what_is_not_supported_is_refused(changes: Config, words: str):
    with pytest.raises(ConfigError, match=words):
        read(**changes)


def test_settings_at_their_only_value_are_no_news(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        read(positional_scale=1.0, depformer_positional_scale=1, skip_self_attn=False)
        read(fuser={"prepend": [], "streaming_sum": []}, same_initial=True)
    assert not caplog.records
