"""Weight files are told apart by what is in them, never by their names."""

import re
from collections.abc import Collection
from typing import Literal

import mlx.core as mx

from ..errors import CheckpointError
from ..utils.remap import shown
from ..utils.tensor_files import Weights

Format = Literal["mlx", "pytorch", "candle", "transformers"]

INT8_SCALE = "_scb"  # bitsandbytes: the largest absolute value of each row
FOREIGN_NAMES = {  # tensors of other models
    r"encoder\.(model\.|init_conv).+": "a Mimi codec, not a language model",
    r"model\.embed_tokens\.embed_tokens\.weight|codec_model\..+": "a model in the "
    "layout of the transformers library: use the repository without '-trfs'",
    r".*flow_(lm|net).*": "Pocket TTS, another architecture",
}


def format_of(names: Collection[str], what: str) -> Format:
    """Which naming a language model's tensors follow.

    Raises: CheckpointError if it is none of ours, with what it seems to be.
    """
    if _any(r"depformer\.\d+\.linear_in\.weight", names):
        return "candle"
    if _any(r"emb\.0\.weight|.+\.(alpha|in_proj_weight|in_projs\.0\.weight)", names):
        return _unless_foreign("pytorch", names, what)
    if "text_emb.weight" in names or "text_emb.out1.weight" in names:
        return _unless_foreign("mlx", names, what)
    if {"model.embed_tokens.weight", "model.norm.weight"} <= set(names):
        return "transformers"
    return _unless_foreign(None, names, what)


def _any(pattern: str, names: Collection[str]) -> bool:
    compiled = re.compile(pattern)
    return any(compiled.fullmatch(name) for name in names)


def _unless_foreign(found: Format | None, names: Collection[str], what: str) -> Format:
    for pattern, kind in FOREIGN_NAMES.items():
        if _any(pattern, names):
            raise CheckpointError(f"{what} hold {kind}.")
    if found is None:
        raise CheckpointError(
            f"{what} hold no Moshi language model but {shown(names) or 'nothing'}."
        )
    return found


def widen_int8(weights: Weights, dtype: mx.Dtype) -> Weights:
    """Matrices that bitsandbytes rounded to int8, as floats again; the rest untouched.

    A row of ``weight`` (int8) is a multiple of its ``weight_scb / 127`` (float32).
    Source: kyutai-labs/moshi, utils/quantize.py; bitsandbytes int8_vectorwise_quant.
    """
    widened = dict(weights)
    for name, scale in weights.items():
        matrix = name.removesuffix(INT8_SCALE)
        if matrix != name and matrix in weights:
            step = scale.astype(mx.float32).reshape(-1, 1) / 127
            rows = weights[matrix].astype(mx.float32)
            widened[matrix] = (rows * step).astype(dtype)
            del widened[name]
    return widened
