"""Weight files: read lazily, told apart by what is in them, never by their names.

A file that is not what it should be becomes one sentence: missing, empty, cut short, a
pickle, GGUF, a Git LFS pointer, a codec in place of a language model.
"""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import mlx.core as mx

from ..errors import CheckpointError
from ..utils.remap import shown

Weights = dict[str, mx.array]
Format = Literal["mlx", "pytorch", "candle", "transformers"]

MAX_HEADER = 100 * 2**20  # bytes: the limit of the safetensors library
INT8_SCALE = "_scb"  # bitsandbytes: the largest absolute value of each row
FOREIGN_STARTS = {  # first bytes of what people take for weights
    b"GGUF": "is a GGUF file, which is not read here: use the model's MLX, PyTorch or "
    "candle-bf16 repository",
    b"PK\x03\x04": "is a PyTorch pickle, which is not read for safety: save it as "
    "safetensors",
    b"\x80\x02": "is a Python pickle, which is not read for safety: save it as "
    "safetensors",
    b"version https://git-lfs": "is a Git LFS pointer, not the weights: run "
    "'git lfs pull' in its folder",
}
FOREIGN_NAMES = {  # tensors of other models
    r"encoder\.(model\.|init_conv).+": "a Mimi codec, not a language model",
    r"(img|image)_\w+\..+": "MoshiVis, which is not supported",
    r"model\.embed_tokens\.embed_tokens\.weight|codec_model\..+": "a model in the "
    "layout of the transformers library: use the repository without '-trfs'",
    r".*flow_(lm|net).*": "Pocket TTS, another architecture",
}


@dataclass(frozen=True)
class TensorInfo:
    """One tensor by its file's header: ``dtype`` as safetensors writes it ("BF16")."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int


def read_header(path: Path) -> dict[str, TensorInfo]:
    """What a safetensors file holds, without reading the tensors.

    Raises: CheckpointError for anything but a whole safetensors file.
    """
    if not path.is_file():
        raise CheckpointError(
            f"there is no weights file {str(path)!r}: check its path."
        )
    size = path.stat().st_size
    if size == 0:
        raise CheckpointError(f"weights file {str(path)!r} is empty: fetch it again.")
    with path.open("rb") as file:
        start = file.read(64)
        for magic, what in FOREIGN_STARTS.items():
            if start.startswith(magic):
                raise CheckpointError(f"{str(path)!r} {what}.")
        length = int.from_bytes(start[:8], "little")
        if len(start) < 9 or length > MAX_HEADER or start[8:9] != b"{":
            raise CheckpointError(f"{str(path)!r} is not a safetensors file.")
        file.seek(8)
        text = file.read(length)
    if len(text) < length:
        raise _cut_short(path, size, None)
    try:
        entries = json.loads(text)
        entries.pop("__metadata__", None)
        spans = {name: entry["data_offsets"] for name, entry in entries.items()}
        tensors = {
            name: TensorInfo(
                entry["dtype"], tuple(entry["shape"]), spans[name][1] - spans[name][0]
            )
            for name, entry in entries.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{str(path)!r} has a damaged header: fetch it again."
        ) from error
    wanted = 8 + length + max((end for _, end in spans.values()), default=0)
    if size < wanted:
        raise _cut_short(path, size, wanted)
    return tensors


def _cut_short(path: Path, size: int, wanted: int | None) -> CheckpointError:
    there = f"{size / 1e6:.1f}" + (f" of {wanted / 1e6:.1f}" if wanted else "")
    return CheckpointError(
        f"{str(path)!r} is cut short, {there} MB are there: fetch it again."
    )


def read_tensors(path: Path) -> Weights:
    """The tensors of a safetensors file; their data are read when they are used.

    Raises: CheckpointError for anything but a whole safetensors file.
    """
    read_header(path)
    try:
        weights = mx.load(str(path), format="safetensors")
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{str(path)!r} cannot be read: {str(error).splitlines()[0]}"
        ) from error
    assert isinstance(weights, dict)
    return weights


def format_of(names: Collection[str], what: str) -> Format:
    """Which naming a language model's tensors follow.

    Raises: CheckpointError where it is none of ours, with what it seems to be.
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
