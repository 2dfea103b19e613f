"""MoshiVis, a Moshi that sees: its files, in which two networks lie.

Three forms are published: PyTorch's (``llm.``, ``image_prefix.``), MLX's (bf16, or
quantised but for the vision tower) and candle's. None has a config.json; all are Moshi
7B with SigLIP-So400m at 448 pixels. The attention to the image is one for all layers:
files hold it under layer 0, and some repeat it, or parts of it, under the others.
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
CONFIG: dict[str, Any] = {"model_type": MODEL_TYPE, "vision": {}}  # all is as released
IMAGE = re.compile(r"(img_embedder|(transformer\.)?image_prefix|image_encoder)\..+")
_LAYER = r"(?:llm\.)?transformer\.layers\.(?P<l>\d+)\.cross_attention"
_SHARED = _LAYER.replace(r"(?P<l>\d+)", "0") + r"(?:\.mha)?"
_REPEATED = _LAYER.replace(r"(?P<l>\d+)", r"[1-9]\d*") + r"(?:\.mha)?"
_OURS = r"transformer.layers.\g<l>.cross_gate"
_ATTENTION = "transformer.cross_attention"
_RULES = [
    Rule(rf"{_LAYER}\.gate\.alpha\.(?:layers\.)?0\.(.+)", rf"{_OURS}.linear1.\2"),
    Rule(rf"{_LAYER}\.gate\.alpha\.(?:layers\.)?2\.(.+)", rf"{_OURS}.linear2.\2"),
    Rule(rf"{_REPEATED}\.(?:in|out|q|kv)_proj[._].+", None),
    Rule(rf"{_SHARED}\.in_proj[._](.+)", rf"{_ATTENTION}.in_proj.\1"),
    Rule(rf"{_SHARED}\.out_proj\.(.+)", rf"{_ATTENTION}.out_proj.\1"),
    Rule(r"audio_emb(\.\d+\..+)", r"emb\1"),
    Rule(r"audio_linears(\.\d+\..+)", r"linears\1"),
]


def is_named_so(name: str, folder: Path | None) -> bool:
    """Whether a checkpoint without config.json is a MoshiVis: by its tensors where it
    is a folder, else by its name."""
    if folder is None:
        return NAMED_SO.search(name) is not None
    try:
        for file in sorted(folder.glob("model*.safetensors")):
            if any(IMAGE.fullmatch(name) for name in read_header(file)):
                return True
    except CheckpointError:  # damaged: whoever reads the weights says so
        pass
    return False


def image_part(weights: Mapping[str, mx.array], what: str) -> Weights:
    """The tensors of ``ImageEncoder``, under its names."""
    mine = {name: w for name, w in weights.items() if IMAGE.fullmatch(name)}
    return remap(mine, IMAGE_RULES, what)


def language_part(weights: Mapping[str, mx.array], what: str) -> Weights:
    """The tensors of the language model, under the names that Moshi's files have."""
    mine = {name: w for name, w in weights.items() if not IMAGE.fullmatch(name)}
    special = _one_projection(mine)
    known = [re.compile(rule.source) for rule in _RULES]
    gated = {n: w for n, w in special.items() if any(p.fullmatch(n) for p in known)}
    rest = {n.removeprefix("llm."): w for n, w in special.items() if n not in gated}
    return rest | remap(gated, _RULES, what)


def _one_projection(weights: Mapping[str, mx.array]) -> Weights:
    """MLX's projections of queries, and of keys and values, as one matrix of rows."""
    joined = dict(weights)
    mha = "transformer.layers.0.cross_attention.mha"
    for part in ("weight", "scales", "biases"):
        names = [f"{mha}.q_proj.{part}", f"{mha}.kv_proj.{part}"]
        if all(name in joined for name in names):
            halves = [joined.pop(name) for name in names]
            joined[f"{mha}.in_proj.{part}"] = mx.concatenate(halves)
    return joined


def outline_image_encoder(lm: Lm) -> ImageEncoder | None:
    """The image encoder that belongs to a language model, none of its weights read."""
    if lm.cfg.vision is None:
        return None
    encoder = ImageEncoder(lm.cfg.vision, lm.cfg.transformer.d_model)
    encoder.set_dtype(lm.out_norm["weight"].dtype)
    return encoder
