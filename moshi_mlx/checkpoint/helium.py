"""Helium, the text model: Hugging Face's config and tensors in our form."""

import re
from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from ..errors import ConfigError
from ..models.config import LmConfig
from ..models.presets import config_helium_1_preview_2b
from ..models.schema import without_nulls
from ..utils.remap import Rule, remap
from ..utils.tensor_files import Weights

TOKENIZER = "tokenizer_spm_48k_multi6_2.model"
MLX_REPO = "kyutai/helium-1-preview-2b-mlx"  # no config.json, but the tokenizer

# config.json of kyutai/helium-1-preview-2b, only the keys that matter
HELIUM_2B: dict[str, Any] = {
    "model_type": "helium",
    "hidden_size": 2560,
    "intermediate_size": 7040,
    "num_attention_heads": 20,
    "num_key_value_heads": 20,
    "num_hidden_layers": 24,
    "max_position_embeddings": 4096,
    "rope_theta": 100000.0,
    "rms_norm_eps": 1e-8,
    "vocab_size": 48000,
}
JOINED = {  # ours: theirs, one above the other
    "self_attn.in_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "gating.linear_in": ("mlp.gate_proj", "mlp.up_proj"),
}
LAYER = r"model(\.layers\.\d+\.)"
RULES = [
    Rule(r"model\.embed_tokens\.weight", "text_emb.weight"),
    Rule(r"lm_head\.weight", "text_linear.weight"),
    Rule(r"model\.norm\.weight", "out_norm.weight"),
    Rule(LAYER + r"((?:self_attn\.in_proj|gating)\..+)", r"transformer\1\2"),
    Rule(LAYER + r"self_attn\.o_proj(.+)", r"transformer\1self_attn.out_proj\2"),
    Rule(LAYER + r"mlp\.down_proj(.+)", r"transformer\1gating.linear_out\2"),
    Rule(LAYER + r"input_layernorm(.+)", r"transformer\1norm1\2"),
    Rule(LAYER + r"post_attention_layernorm(.+)", r"transformer\1norm2\2"),
    Rule(r".*rotary_emb\.inv_freq", None),  # computed here
]


def is_helium(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is Hugging Face's for a Helium."""
    return config.get("model_type") == "helium" and "hidden_size" in config


def helium_config(config: Mapping[str, Any]) -> LmConfig:
    """A text-only ``LmConfig`` from Hugging Face's config.json.

    Raises: ConfigError for a head width other than the model's width divided by its
        heads.
    """
    data = HELIUM_2B | without_nulls(config)
    heads, width = data["num_attention_heads"], data["hidden_size"]
    if data.get("head_dim") not in (None, width // heads):
        raise ConfigError(
            f"config has head_dim {data['head_dim']} with {heads} heads in {width}: "
            "only their quotient is supported."
        )
    rope = data.get("rope_parameters")  # since version 5 of the library
    rope = rope if isinstance(rope, Mapping) else data
    cfg = config_helium_1_preview_2b()
    stack = cfg.transformer
    stack.d_model = width
    stack.num_heads = heads
    stack.kv_repeat = heads // data["num_key_value_heads"]
    stack.num_layers = data["num_hidden_layers"]
    stack.gating_dim = data["intermediate_size"]
    stack.context = data["max_position_embeddings"]
    stack.max_period = rope.get("rope_theta") or data["rope_theta"]
    stack.norm_eps = data["rms_norm_eps"]
    cfg.text_in_vocab_size = cfg.text_out_vocab_size = data["vocab_size"]
    return cfg


def rename_helium(weights: Weights, what: str) -> Weights:
    """Tensors of the transformers library with our names; tied heads are shared."""
    joined = dict(weights)
    for ours, theirs in JOINED.items():
        first = re.compile(rf"(model\.layers\.\d+\.){re.escape(theirs[0])}\.weight")
        for name in weights:
            if match := first.fullmatch(name):
                names = [f"{match[1]}{part}.weight" for part in theirs]
                if all(part in joined for part in names):
                    parts = [joined.pop(part) for part in names]
                    joined[f"{match[1]}{ours}.weight"] = mx.concatenate(parts)
    renamed = remap(joined, RULES, what)
    renamed.setdefault("text_linear.weight", renamed["text_emb.weight"])
    return renamed
