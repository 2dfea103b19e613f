"""The codec's JSON: everything in it is read, refused or named."""

import json
import logging

import pytest

from moshi_mlx.errors import ConfigError
from moshi_mlx.models.mimi import Mimi, MimiConfig, mimi_202407
from moshi_mlx.modules.seanet import SeanetConfig
from moshi_mlx.modules.transformer import TransformerConfig
from tests.tiny import parameters
from tests.tiny_mimi import GOLDEN, TINY, changed

# kyutai-labs/moshi, models/loaders.py: the released codec, as it would be written.
RELEASED = {
    "sample_rate": 24000,
    "channels": 1,
    "frame_rate": 12.5,
    "seanet": {
        "channels": 1,
        "dimension": 512,
        "causal": True,
        "n_filters": 64,
        "n_residual_layers": 1,
        "activation": "ELU",
        "compress": 2,
        "dilation_base": 2,
        "disable_norm_outer_blocks": 0,
        "kernel_size": 7,
        "residual_kernel_size": 3,
        "last_kernel_size": 3,
        "norm": "none",
        "pad_mode": "constant",
        "ratios": [8, 6, 5, 4],
        "true_skip": True,
    },
    "quantizer": {
        "dimension": 256,
        "n_q": 32,
        "bins": 2048,
        "input_dimension": 512,
        "output_dimension": 512,
    },
    "transformer": {
        "d_model": 512,
        "num_heads": 8,
        "num_layers": 8,
        "causal": True,
        "layer_scale": 0.01,
        "context": 250,
        "conv_layout": True,
        "max_period": 10000,
        "gating": "none",
        "norm": "layer_norm",
        "positional_embedding": "rope",
        "dim_feedforward": 2048,
        "input_dimension": 512,
        "output_dimensions": [512],
    },
}
# Differ between a config read from JSON and 0.3.0's preset, and compute the same.
SPELLINGS = {"gating", "norm_eps", "conv_layout", "max_seq_len", "gating_dim"}


def test_the_released_codec_is_the_preset(caplog):
    read, preset = MimiConfig.from_config_dict(RELEASED, 8), mimi_202407(8)
    assert read.seanet == preset.seanet
    stacks = [vars(c.transformer) for c in (read, preset)]
    differing = {k for k in stacks[0] if stacks[0][k] != stacks[1][k]}
    assert differing <= SPELLINGS
    for name in ("sample_rate", "frame_rate", "frame_size", "quantizer_nq"):
        assert getattr(read, name) == getattr(preset, name)
    assert (read.quantizer_bins, read.quantizer_dim) == (2048, 256)
    assert read.frame_size == 1920 and read.resample_stride == 2
    assert not caplog.records
    shapes = [
        {k: w.shape for k, w in parameters(Mimi(cfg)).items()} for cfg in (read, preset)
    ]
    assert shapes[0] == shapes[1]


def test_every_field_of_the_json_arrives():
    data = json.loads((GOLDEN / "mimi_config.json").read_text())
    cfg = MimiConfig.from_config_dict(data)
    assert cfg.seanet == SeanetConfig(
        dimension=32,
        channels=1,
        causal=True,
        nfilters=4,
        nresidual_layers=1,
        ratios=[8, 6, 5, 4],
        ksize=7,
        residual_ksize=3,
        last_ksize=3,
        dilation_base=2,
        pad_mode="constant",
        true_skip=True,
        compress=2,
    )
    stack = cfg.transformer
    assert (stack.d_model, stack.num_heads, stack.num_layers) == (32, 4, 2)
    assert (stack.context, stack.layer_scale, stack.dim_feedforward) == (20, 0.3, 64)
    assert (cfg.quantizer_nq, cfg.quantizer_bins, cfg.quantizer_dim) == (8, 64, 16)


def test_a_config_by_hand_with_the_fields_of_0_3_0_builds_a_codec():
    seanet = SeanetConfig(8, 1, True, 2, 1, [2, 2], 3, 3, 3, 2, "constant", True, 2)
    transformer = TransformerConfig(
        d_model=8,
        num_heads=2,
        num_layers=1,
        causal=True,
        norm_first=True,
        bias_ff=False,
        bias_attn=False,
        layer_scale=0.01,
        positional_embedding="rope",
        use_conv_block=False,
        cross_attention=False,
        conv_kernel_size=3,
        use_conv_bias=True,
        gating=False,
        norm="layer_norm",
        context=10,
        max_period=10000,
        max_seq_len=8192,
        kv_repeat=1,
        dim_feedforward=16,
        conv_layout=True,
    )
    cfg = MimiConfig(
        channels=1,
        sample_rate=800,
        frame_rate=100,
        renormalize=True,
        seanet=seanet,
        transformer=transformer,
        quantizer_nq=3,
        quantizer_bins=8,
        quantizer_dim=4,
    )
    mimi = Mimi(cfg)
    mimi.warmup()
    assert (mimi.frame_size, mimi.num_codebooks) == (8, 3)
    assert cfg.transformer.conv_layout  # ours to read, not to change


@pytest.mark.parametrize("count", [1, 3, 4])
def test_fewer_codebooks_than_the_files(count):
    assert MimiConfig.from_config_dict(TINY, count).quantizer_nq == count


@pytest.mark.parametrize("count", [0, 5])
def test_more_codebooks_than_the_files_are_refused(count):
    with pytest.raises(ConfigError, match=f"^{count} codebooks .* has 4: give 1 to 4"):
        MimiConfig.from_config_dict(TINY, count)


@pytest.mark.parametrize("part", ["seanet", "quantizer", "transformer", None])
def test_unknown_keys_are_named(part, caplog):
    new = {"knob": 1, "dial": 2}
    data = {**TINY, **new} if part is None else changed(**{part: new})
    with caplog.at_level(logging.WARNING):
        MimiConfig.from_config_dict(data)
    assert len(caplog.records) == 1
    assert "not read: dial, knob" in caplog.text and (part or "codec's") in caplog.text


@pytest.mark.parametrize(
    "part, values, words",
    [
        ("seanet", {"activation": "ReLU"}, "activation 'ReLU'"),
        ("seanet", {"norm": "weight_norm"}, "norm 'weight_norm'"),
        ("seanet", {"causal": False}, "causal False"),
        ("seanet", {"pad_mode": "reflect"}, "pad_mode 'reflect'"),
        ("seanet", {"final_activation": "Tanh"}, "final_activation 'Tanh'"),
        ("seanet", {"trim_right_ratio": 0.5}, "trim_right_ratio 0.5"),
        ("seanet", {"channels": 2}, "1 channels outside and 2 in its seanet"),
        ("seanet", {"ratios": [2, 5]}, "80 latents a second cannot become 100 frames"),
        ("seanet", {"ratios": [2, 4]}, "100 latents a second cannot become 100"),
        ("quantizer", {"n_q_semantic": 2}, "n_q_semantic 2: only 1"),
        ("quantizer", {"input_dimension": 6}, "input_dimension 6: only 12"),
        ("quantizer", {"output_dimension": None}, "output_dimension None: only 12"),
        ("transformer", {"context": None}, "no context"),
        ("transformer", {"cross_attention": True}, "cross_attention"),
        ("transformer", {"gating": "swish"}, "gating 'swish'"),
        ("transformer", {"norm": "batch_norm"}, "norm 'batch_norm'"),
        ("transformer", {"positional_embedding": "alibi"}, "embedding 'alibi'"),
        ("transformer", {"num_heads": 5}, "do not divide"),
        ("transformer", {"causal": False}, "causal"),
        ("transformer", {"input_dimension": 7}, "from 7 to .12. channels"),
        ("transformer", {"output_dimensions": [12, 6]}, "from 12 to .12, 6. channels"),
    ],
)
def test_what_would_compute_something_else_is_refused(part, values, words):
    with pytest.raises(ConfigError, match=words):
        MimiConfig.from_config_dict(changed(**{part: values}))


@pytest.mark.parametrize("key", ["seanet", "sample_rate", "transformer", "quantizer"])
def test_a_missing_part_is_named(key):
    data = {k: v for k, v in TINY.items() if k != key}
    with pytest.raises(ConfigError, match=f"has no '{key}'"):
        MimiConfig.from_config_dict(data)
