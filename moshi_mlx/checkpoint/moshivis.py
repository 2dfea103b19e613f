"""MoshiVis, a Moshi that sees: its files contain two networks.

It is published in three forms: PyTorch's (``llm.``, ``image_prefix.``), MLX's (bf16, or
quantised except for the vision tower) and candle's (bf16, or GGUF with the image
encoder in a file beside it). None has a config.json; all are Moshi 7B with
SigLIP-So400m at 448 pixels. All layers share one attention to the image: files have it
in layer 0, and some repeat it, or parts of it, in the others.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..errors import CheckpointError
from ..models.image import IMAGE_RULES, ImageEncoder
from ..models.lm import Lm
from ..utils.remap import Rule, remap
from ..utils.tensor_files import Weights, read_header

MODEL_TYPE = "moshi_vis"
NAMED_SO = re.compile(r"moshi\w*-vis\b", re.IGNORECASE)  # kyutai/moshika-vis-mlx
CONFIG: dict[str, Any] = {"model_type": MODEL_TYPE, "vision": {}}  # all as released
IMAGE = re.compile(r"(img_embedder|(transformer\.)?image_prefix|image_encoder)\..+")
_LAYER = r"(?:llm\.)?transformer\.layers\.(?P<l>\d+)\.cross_attention"
_SHARED = _LAYER.replace(r"(?P<l>\d+)", "0") + r"(?:\.mha)?"
_REPEATED = _LAYER.replace(r"(?P<l>\d+)", r"[1-9]\d*") + r"(?:\.mha)?"
_OURS = r"transformer.layers.\g<l>.cross_gate"
_ATTENTION = "transformer.cross_attention"
_HALF = re.compile(  # MLX's names, and candle's
    rf"{_SHARED}\.(?:(?P<q>q|kv)_proj\.|in_proj_weight_(?P<theirs>q|kv)\.?)(?P<part>\w*)"
)
_RULES = [
    Rule(rf"{_LAYER}\.gate\.alpha\.(?:layers\.)?0\.(.+)", rf"{_OURS}.linear1.\2"),
    Rule(rf"{_LAYER}\.gate\.alpha\.(?:layers\.)?2\.(.+)", rf"{_OURS}.linear2.\2"),
    Rule(rf"{_REPEATED}\.(?:in|out|q|kv)_proj[._].+", None),
    Rule(rf"{_SHARED}\.in_proj[._](.+)", rf"{_ATTENTION}.in_proj.\1"),
    Rule(rf"{_SHARED}\.out_proj\.(.+)", rf"{_ATTENTION}.out_proj.\1"),
    Rule(r"audio_emb(\.\d+\..+)", r"emb\1"),
    Rule(r"audio_linears(\.\d+\..+)", r"linears\1"),
]


def image_file(language_file: Path) -> str | None:
    """Candle's name for the image encoder's file beside a GGUF file; None beside any
    other file. Source: kyutai-labs/moshivis, kyuteye_rs, image_embedder.rs."""
    if language_file.suffix != ".gguf":
        return None
    return f"{language_file.name.rsplit('.', 2)[0]}_vision_tower_unquant.safetensors"


def is_named_so(name: str, folder: Path | None) -> bool:
    """Whether a checkpoint without config.json is a MoshiVis: a folder by its tensors,
    anything else by its name."""
    if folder is None:
        return NAMED_SO.search(name) is not None
    try:
        files = [*folder.glob("model*.safetensors"), *folder.glob("model*.gguf")]
        for file in sorted(files):
            if any(IMAGE.fullmatch(name) for name in read_header(file)):
                return True
    except CheckpointError:  # damaged: reading the weights will say so
        pass
    return False


def image_part(weights: Mapping[str, mx.array], what: str) -> Weights:
    """The tensors of ``ImageEncoder``, with its names."""
    mine = {name: w for name, w in weights.items() if IMAGE.fullmatch(name)}
    return remap(mine, IMAGE_RULES, what)


def language_part(weights: Mapping[str, mx.array], what: str) -> Weights:
    """The tensors of the language model, with the names in Moshi's files."""
    mine = {name: w for name, w in weights.items() if not IMAGE.fullmatch(name)}
    special = _one_projection(mine)
    known = [re.compile(rule.source) for rule in _RULES]
    gated = {n: w for n, w in special.items() if any(p.fullmatch(n) for p in known)}
    rest = {n.removeprefix("llm."): w for n, w in special.items() if n not in gated}
    return rest | remap(gated, _RULES, what)


def _one_projection(weights: Mapping[str, mx.array]) -> Weights:
    """The projections of queries, and of keys and values, as one matrix of rows."""
    joined: Weights = {}
    halves: dict[str, dict[str, mx.array]] = {}  # by the part of a matrix
    for name, w in weights.items():
        if match := _HALF.fullmatch(name):
            part = match["part"] or "weight"
            halves.setdefault(part, {})[match["q"] or match["theirs"]] = w
        else:
            joined[name] = w
    for part, found in halves.items():
        if found.keys() == {"q", "kv"}:
            both = mx.concatenate([found["q"], found["kv"]])
            joined[f"{_ATTENTION}.in_proj.{part}"] = both
    return joined


def outline_image_encoder(lm: Lm) -> ImageEncoder | None:
    """A language model's image encoder, without reading its weights."""
    if lm.cfg.vision is None:
        return None
    encoder = ImageEncoder(lm.cfg.vision, lm.cfg.transformer.d_model)
    encoder.set_dtype(lm.out_norm["weight"].dtype)
    return encoder
