"""The keys of config.json: which ones are read, and what to say about the others."""

import logging
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from .schema import in_words, shortened

logger = logging.getLogger(__name__)

# Keys that name files, choose a command's behaviour, or matter only in training.
PACKAGING_KEYS = frozenset(
    (
        "moshi_name",
        "mimi_name",
        "mimi_config_name",
        "tokenizer_name",
        "lora_name",
        "model_type",
        "lm_gen_config",
        "tts_config",
        "stt_config",
        "model_id",
        "quantize",
        "quantization",
        "lora",
        "lora_rank",
        "lora_scaling",
        "same_initial",
        "gradient_checkpointing",
        "depformer_causal",
        "version",
    )
)
MODEL_KEYS = frozenset(
    (
        "dim",
        "num_heads",
        "num_layers",
        "hidden_scale",
        "causal",
        "layer_scale",
        "context",
        "max_period",
        "gating",
        "norm",
        "positional_embedding",
        "kv_repeat",
        "norm_emb",
        "bias_proj",
        "card",
        "n_q",
        "dep_q",
        "foreseen_codebooks",
        "text_card",
        "text_card_out",
        "existing_text_padding_id",
        "existing_text_end_padding_id",
        "delays",
        "demux_second_stream",
        "cross_attention",
        "conditioners",
        "fuser",
        "extra_heads_num_heads",
        "extra_heads_dim",
        "vision",
    )
)
DEPFORMER_KEYS = frozenset(
    (
        "dim",
        "dim_feedforward",
        "num_heads",
        "num_layers",
        "layer_scale",
        "gating",
        "max_period",
        "kv_repeat",
        "pos_emb",
        "multi_linear",
        "weights_per_step",
        "weights_per_step_schedule",
        "low_rank_embeddings",
        "norm",
        "context",
    )
)

# Settings of PyTorch's transformer that would change the computation; in released
# models they all have this value.
FIXED_KEYS = {"positional_scale": 1.0, "skip_self_attn": False}
FUSED = ("sum", "cross", "cross_attention_pos_emb", "cross_attention_pos_emb_scale")


def check_keys(data: Mapping[str, Any]) -> None:
    """Warn about keys that nobody reads.

    Raises: ConfigError for a key whose value here is not supported.
    """
    for key, value in FIXED_KEYS.items():
        for name in (key, f"depformer_{key}"):
            if data.get(name, value) != value:
                raise ConfigError(
                    f"config has {name} {shortened(data[name])}: supported is {value}."
                )
    known = PACKAGING_KEYS | MODEL_KEYS | {f"depformer_{k}" for k in DEPFORMER_KEYS}
    known |= {name for key in FIXED_KEYS for name in (key, f"depformer_{key}")}
    unknown = sorted(set(data) - known)
    if unknown:
        logger.warning("config.json has keys that are not read: %s", in_words(unknown))
