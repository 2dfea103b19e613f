"""Configurations of released models, for programs that name them instead of a file."""

from typing import Any

from ..modules.seanet import SeanetConfig
from ..modules.transformer import TransformerConfig
from .config import DepFormerConfig, LmConfig
from .mimi_config import MimiConfig


def _stack(
    dim: int, heads: int, layers: int, context: int, **changes: Any
) -> TransformerConfig:
    fields: dict[str, Any] = {
        "d_model": dim,
        "num_heads": heads,
        "num_layers": layers,
        "dim_feedforward": 4 * dim,
        "causal": True,
        "norm_first": True,
        "bias_ff": False,
        "bias_attn": False,
        "layer_scale": None,
        "context": context,
        "max_period": 100_000,
        "use_conv_block": False,
        "use_conv_bias": True,
        "cross_attention": False,
        "gating": True,
        "norm": "rms_norm",
        "positional_embedding": "rope",
        "conv_layout": False,
        "conv_kernel_size": 3,
        "kv_repeat": 1,
        "max_seq_len": 4096,
        **changes,
    }
    return TransformerConfig(**fields)


def _depformer(steps: int) -> DepFormerConfig:
    return DepFormerConfig(
        _stack(1024, 16, 6, steps, max_period=10_000, positional_embedding="none"),
        num_slices=steps,
    )


def config_v0_1() -> LmConfig:
    """Moshi 7B (moshiko, moshika), 2024-09."""
    return LmConfig(
        transformer=_stack(4096, 32, 32, 3000, max_period=10_000),
        depformer=_depformer(8),
        text_in_vocab_size=32001,
        text_out_vocab_size=32000,
        audio_vocab_size=2049,
        audio_codebooks=16,
        audio_delays=([0] + [1] * 7) * 2,
    )


def config1b_202412() -> LmConfig:
    """The 1B model of 2024-12 with 8 codebooks a side."""
    return LmConfig(
        transformer=_stack(2048, 16, 16, 3000),
        depformer=_depformer(8),
        text_in_vocab_size=48001,
        text_out_vocab_size=48000,
        audio_vocab_size=2049,
        audio_codebooks=16,
        audio_delays=([0] + [2] * 7) * 2,
    )


def config1b_202412_16rvq() -> LmConfig:
    """The 1B model of 2024-12 with 16 codebooks a side."""
    return LmConfig(
        transformer=_stack(2048, 16, 16, 3000),
        depformer=_depformer(16),
        text_in_vocab_size=48001,
        text_out_vocab_size=48000,
        audio_vocab_size=2049,
        audio_codebooks=32,
        audio_delays=([0] + [2] * 15) * 2,
    )


def config_helium_1_preview_2b() -> LmConfig:
    """Helium 1 preview, 2B: text only."""
    transformer = _stack(2560, 20, 24, 4096)
    return LmConfig(
        transformer=transformer,
        depformer=DepFormerConfig(transformer, num_slices=0),
        text_in_vocab_size=48000,
        text_out_vocab_size=48000,
        audio_vocab_size=2049,
        audio_codebooks=0,
        audio_delays=[],
    )


def mimi_202407(num_codebooks: int) -> MimiConfig:
    """The codec of all released models: 24 kHz, 12.5 frames per second. A file holds 32
    codebooks, of which Moshi uses 8."""
    seanet = SeanetConfig(
        dimension=512,
        channels=1,
        causal=True,
        nfilters=64,
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
    transformer = _stack(
        seanet.dimension,
        8,
        8,
        250,
        max_period=10_000,
        layer_scale=0.01,
        gating=False,
        norm="layer_norm",
        conv_layout=True,
        max_seq_len=8192,
    )
    return MimiConfig(
        channels=1,
        sample_rate=24_000,
        frame_rate=12.5,
        renormalize=True,
        seanet=seanet,
        transformer=transformer,
        quantizer_nq=num_codebooks,
        quantizer_bins=2048,
        quantizer_dim=256,
    )
