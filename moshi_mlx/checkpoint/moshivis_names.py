"""MoshiVis with the names of Kyutai's PyTorch file: the reverse of ``moshivis``.

Source of the names: kyutai-labs/moshivis, kyuteye_pt.
"""

import re
from collections.abc import Mapping

import mlx.core as mx

from ..models.image import channels_first
from ..utils.remap import Rule, remap
from ..utils.tensor_files import Weights

ENCODER = "image_encoder."  # the prefix that ``save`` gives the encoder's own names
_LAYER = r"transformer\.layers\.(?P<l>\d+)"
_GATE = r"llm.transformer.layers.\g<l>.cross_attention.gate.alpha"
_SHARED = "llm.transformer.layers.0.cross_attention.mha"
_OWN = r"depformer(\.|_).+"
_LANGUAGE = [  # from the names of a plain PyTorch file
    Rule(rf"{_LAYER}\.cross_gate\.linear1\.(?P<end>\w+)", rf"{_GATE}.0.\g<end>"),
    Rule(rf"{_LAYER}\.cross_gate\.linear2\.(?P<end>\w+)", rf"{_GATE}.2.\g<end>"),
    Rule(r"transformer\.cross_attention\.(?P<rest>.+)", rf"{_SHARED}.\g<rest>"),
    Rule(rf"{_LAYER}\.(?!cross_gate\.).+", r"llm.\g<0>"),
    Rule(r"(text_emb|text_linear|out_norm)\..+", r"llm.\g<0>"),
    Rule(r"(emb|linears)\.\d+\..+", r"audio_\g<0>"),
    Rule(_OWN, r"\g<0>"),
]
_TOWER, _END = "image_prefix.enc.model", r"(?P<end>weight|bias)"
_INTO = rf"{_TOWER}.encoder.layers.\g<l>"
_IN_LAYER = rf"{re.escape(ENCODER)}tower\.layers\.(?P<l>\d+)"
_IN_TOWER = rf"{re.escape(ENCODER)}tower"
_IMAGE = [
    Rule(
        rf"{_IN_TOWER}\.patch_embedding\.weight",
        f"{_TOWER}.embeddings.patch_embedding.weight",
        channels_first,
    ),
    Rule(
        rf"{_IN_TOWER}\.patch_embedding\.bias",
        f"{_TOWER}.embeddings.patch_embedding.bias",
    ),
    Rule(
        rf"{_IN_TOWER}\.position_embedding",
        f"{_TOWER}.embeddings.position_embedding.weight",
    ),
    Rule(rf"{_IN_LAYER}\.norm(?P<n>[12])\.{_END}", rf"{_INTO}.layer_norm\g<n>.\g<end>"),
    Rule(
        rf"{_IN_LAYER}\.attention\.(?P<p>\w+_proj)\.{_END}",
        rf"{_INTO}.self_attn.\g<p>.\g<end>",
    ),
    Rule(rf"{_IN_LAYER}\.linear(?P<n>[12])\.{_END}", rf"{_INTO}.mlp.fc\g<n>.\g<end>"),
    Rule(rf"{_IN_TOWER}\.post_norm\.{_END}", rf"{_TOWER}.post_layernorm.\g<end>"),
    Rule(rf"{re.escape(ENCODER)}proj\.{_END}", r"image_prefix.proj_xa.\g<end>"),
    Rule(
        rf"{re.escape(ENCODER)}norm\.weight",
        "image_prefix.norm_xa.alpha",
        lambda w: w.reshape(1, 1, -1),
    ),
]


def language_names(named: Mapping[str, mx.array]) -> Weights:
    """The language model's tensors, from the names of a plain PyTorch file."""
    return remap(named, _LANGUAGE, "MoshiVis")


def image_names(weights: Mapping[str, mx.array]) -> Weights:
    """The image encoder's tensors, as ``save`` names them."""
    return remap(weights, _IMAGE, "the image encoder")
