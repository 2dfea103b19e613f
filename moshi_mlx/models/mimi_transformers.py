"""Mimi as the transformers library saves it (``kyutai/mimi``), with Kyutai's names.

The library splits the projections of queries, keys and values, and orders the rows of
the first two for a rotary embedding of halves instead of pairs.
Source: huggingface/transformers, models/mimi/convert_mimi_checkpoint_to_pytorch.py.
"""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from math import prod
from typing import Any

import mlx.core as mx

from .config_stack import required
from .config_values import check_transformers_codec
from .mimi_config import MimiConfig

MARK = "quantizer.semantic_residual_vector_quantizer."
LAYER = r"((?:en|de)coder_transformer)\.layers\.(\d+)"
INNER = r"\1.transformer.layers.\2"
CODER = "(encoder|decoder)"
BOOKS = r"layers\.(\d+)\.codebook"
RULES = [
    (rf"{LAYER}\.input_layernorm\.(\w+)", rf"{INNER}.norm1.\3"),
    (rf"{LAYER}\.post_attention_layernorm\.(\w+)", rf"{INNER}.norm2.\3"),
    (rf"{LAYER}\.mlp\.fc([12])\.weight", rf"{INNER}.linear\3.weight"),
    (rf"{LAYER}\.self_attn_layer_scale\.scale", rf"{INNER}.layer_scale_1.scale"),
    (rf"{LAYER}\.mlp_layer_scale\.scale", rf"{INNER}.layer_scale_2.scale"),
    (rf"{LAYER}\.self_attn\.o_proj\.weight", rf"{INNER}.self_attn.out_proj.weight"),
    (
        r"(encoder|decoder)\.layers\.(\d+)\.(.*)conv\.(\w+)",
        r"\1.model.\2.\3conv.conv.\4",
    ),
    (r"downsample\.conv\.(\w+)", r"downsample.conv.conv.conv.\1"),
    (r"upsample\.conv\.(\w+)", r"upsample.convtr.convtr.convtr.\1"),
    (rf"{BOOKS}\.embed_sum", r"vq.layers.\1._codebook.embedding_sum"),
    (rf"{BOOKS}\.cluster_usage", r"vq.layers.\1._codebook.cluster_usage"),
    (rf"{BOOKS}\.initialized", r"vq.layers.\1._codebook._initialized"),
]


def is_transformers(names: Iterable[str]) -> bool:
    """Whether the tensors of a file are named as the transformers library does."""
    return any(name.startswith(MARK) for name in names)


def released_names(
    weights: Mapping[str, mx.array], cfg: MimiConfig
) -> dict[str, mx.array]:
    """The tensors with the names of Kyutai's released file."""
    upsampling = _upsampling_layers(cfg)
    heads = cfg.transformer.num_heads
    named: dict[str, mx.array] = {}
    for name, w in weights.items():
        if match := re.fullmatch(rf"{LAYER}\.self_attn\.q_proj\.weight", name):
            start = name.removesuffix("q_proj.weight")
            q, k, v = (weights[f"{start}{part}_proj.weight"] for part in "qkv")
            joined = mx.concatenate([in_pairs(q, heads), in_pairs(k, heads), v])
            named[match.expand(rf"{INNER}.self_attn.in_proj_weight")] = joined
        elif not re.fullmatch(rf"{LAYER}\.self_attn\.[kv]_proj\.weight", name):
            named[_released(name, upsampling)] = w
    return named


def _released(name: str, upsampling: set[int]) -> str:
    name = name.replace(MARK, "quantizer.rvq_first.")
    name = name.replace(MARK.replace("semantic", "acoustic"), "quantizer.rvq_rest.")
    head, tail = "", name
    if match := re.fullmatch(rf"(quantizer\.rvq_\w+\.)({BOOKS}.*)", name):
        head, tail = match[1], match[2]
    for source, target in RULES:
        if match := re.fullmatch(source, tail):
            tail = match.expand(target)
            break
    match = re.fullmatch(r"decoder\.model\.(\d+)\.conv\.conv\.(\w+)", tail)
    if match and int(match[1]) in upsampling:
        tail = f"decoder.model.{match[1]}.convtr.convtr.{match[2]}"
    return head + tail


def _upsampling_layers(cfg: MimiConfig) -> set[int]:
    """Positions of the transposed convolutions in the decoder's list of layers."""
    each = 2 + cfg.seanet.nresidual_layers
    return {2 + i * each for i in range(len(cfg.seanet.ratios))}


def in_pairs(w: mx.array, heads: int) -> mx.array:
    """Rows for a rotary embedding of halves, ordered for one of pairs."""
    rows, width = w.shape
    halves = w.reshape(heads, 2, rows // heads // 2, width)
    return halves.swapaxes(1, 2).reshape(rows, width)


def kyutai_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The library's config.json as that of Kyutai's codec.

    Raises: ConfigError for missing or invalid values.
    """
    check_transformers_codec(config)
    get = partial(required, config)
    width, ratios, rate = map(
        get, ("hidden_size", "upsampling_ratios", "sampling_rate")
    )
    frame_rate = config.get("frame_rate") or config.get("_frame_rate")
    rope = config.get("rope_parameters") or config
    return {
        "sample_rate": rate,
        "channels": get("audio_channels"),
        "frame_rate": frame_rate or rate / prod(ratios) / 2,
        "seanet": {
            "channels": get("audio_channels"),
            "dimension": width,
            "causal": config.get("use_causal_conv", True),
            "n_filters": get("num_filters"),
            "n_residual_layers": get("num_residual_layers"),
            "ratios": ratios,
            "kernel_size": get("kernel_size"),
            "residual_kernel_size": get("residual_kernel_size"),
            "last_kernel_size": get("last_kernel_size"),
            "dilation_base": get("dilation_growth_rate"),
            "compress": get("compress"),
            "pad_mode": get("pad_mode"),
            "true_skip": not get("use_conv_shortcut"),
            "trim_right_ratio": config.get("trim_right_ratio", 1.0),
        },
        "quantizer": {
            "dimension": get("codebook_dim"),
            "n_q": get("num_quantizers"),
            "bins": get("codebook_size"),
            "n_q_semantic": config.get("num_semantic_quantizers", 1),
            "input_dimension": width,
            "output_dimension": width,
        },
        "transformer": {
            "d_model": width,
            "num_heads": get("num_attention_heads"),
            "kv_repeat": get("num_attention_heads") // get("num_key_value_heads"),
            "num_layers": get("num_hidden_layers"),
            "dim_feedforward": get("intermediate_size"),
            "causal": True,
            "layer_scale": get("layer_scale_initial_scale"),
            "context": get("sliding_window"),
            "max_period": required(rope, "rope_theta"),
            "gating": "none",
            "norm": "layer_norm",
            "positional_embedding": "rope",
            "conv_layout": True,
            "input_dimension": width,
            "output_dimensions": [width],
        },
    }
