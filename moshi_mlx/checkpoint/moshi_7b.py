"""The configuration of a checkpoint that has none, or only part of one."""

from pathlib import Path
from typing import Any

from . import helium, personaplex, split
from .kinds import model_type

# What a repository without config.json holds: Moshi 7B.
MOSHI_7B: dict[str, Any] = {
    "dim": 4096,
    "text_card": 32000,
    "existing_text_padding_id": 3,
    "n_q": 16,
    "dep_q": 8,
    "card": 2048,
    "num_heads": 32,
    "num_layers": 32,
    "hidden_scale": 4.125,
    "causal": True,
    "layer_scale": None,
    "context": 3000,
    "max_period": 10000,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    "depformer_dim": 1024,
    "depformer_dim_feedforward": 4224,
    "depformer_num_heads": 16,
    "depformer_num_layers": 6,
    "depformer_layer_scale": None,
    "depformer_multi_linear": True,
    "depformer_context": 8,
    "depformer_max_period": 10000,
    "depformer_gating": "silu",
    "depformer_pos_emb": "none",
    "depformer_weights_per_step": True,
    "delays": [0] + 2 * [0, 1, 1, 1, 1, 1, 1, 1],
}


def complete(
    name: str, data: dict[str, Any] | None, weights: Path | None = None
) -> dict[str, Any]:
    """A complete config, whatever config.json leaves out.

    Args:
        weights: the language model's file, if it is here; its tensors may tell more.
    """
    if data is None and "helium" in name.lower():
        return dict(helium.HELIUM_2B)
    data = data or {}
    if data.get("model_type") == "mimi":  # the transformers library's format
        return data
    if split.is_split(data):
        data = split.whole_config(data)
    unnamed = not data.get("model_type")
    tuned = (
        unnamed and model_type(data) == "moshi" and personaplex.has_its_streams(data)
    )
    if data.get("model_type") == personaplex.NAME or tuned:
        return MOSHI_7B | personaplex.completed(data)
    if "dim" in data or helium.is_helium(data):
        return data if data.get("model_type") else {**data, **_with_kind(data)}
    if personaplex.is_personaplex(data, name) or (
        unnamed and personaplex.is_of_its_shape(weights)
    ):
        data = personaplex.completed(data)
    return MOSHI_7B | data


def _with_kind(data: dict[str, Any]) -> dict[str, str]:
    """The model_type to write into a config that lacks one; Moshi's need none."""
    name = model_type(data)
    return {} if name == "moshi" else {"model_type": name}
