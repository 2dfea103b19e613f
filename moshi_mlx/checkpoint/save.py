"""Write a checkpoint folder that loads again: MLX safetensors and config.json."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..errors import CheckpointError
from ..models.mimi import Mimi
from .eos import as_stored
from .formats import Weights
from .quantize import Choice, describe

# Keys that describe the files that were read, not those that are written.
SOURCE_KEYS = {
    *("moshi_name", "mimi_name", "mimi_config_name", "tokenizer_name", "lora_name"),
    *("lora", "lora_rank", "lora_scaling", "quantize", "quantization"),
}
# moshi_mlx 0.3.0 takes bits and groups from the file's name.
NAME_OF = {Choice(32, 4): "model.q4.safetensors", Choice(64, 8): "model.q8.safetensors"}
MIMI_NAME = "mimi.safetensors"
MIMI_CONFIG_NAME = "mimi_config.json"
STATISTICS = ("cluster_usage", "embedding_sum")  # of the codec, always float32


def save(
    folder: str | Path,
    lm: nn.Module,
    config: Mapping[str, Any],
    *,
    mimi: Path | Mimi | None = None,
    mimi_config: Mapping[str, Any] | None = None,
    mimi_dtype: mx.Dtype = mx.float32,
    tokenizer: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Save a language model, plain or quantised, with what belongs to it.

    Load with ``as_stored=True`` what is to be saved in the file's own precision.

    Args:
        config: the config.json that the model was built from; what it says of files,
            adapters and quantisation is replaced.
        mimi: the codec, copied if it is a file; saved in ``mimi_dtype`` if a model.
        mimi_config: the codec's configuration, if it is not Kyutai's released Mimi.
        tokenizer: file to copy.
        overwrite: replace a checkpoint that is there.

    Returns: the folder.
    Raises: CheckpointError where the folder holds a checkpoint already, cannot be
        written, or lacks space.
    """
    folder = Path(folder).expanduser()
    check_free(folder, overwrite)
    quantization = describe(lm)
    data = {key: value for key, value in config.items() if key not in SOURCE_KEYS}
    uniform = quantization.uniform
    name = NAME_OF.get(uniform, "model.safetensors") if uniform else "model.safetensors"
    data["moshi_name"] = name
    if block := quantization.to_config():
        data["quantization"] = block
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with as_stored(lm):
            _write_tensors(folder / name, dict(tree_flatten(lm.parameters())))
        if mimi is not None:
            data["mimi_name"] = _save_mimi(folder, mimi, mimi_dtype)
        if mimi_config is not None:
            data["mimi_config_name"] = MIMI_CONFIG_NAME
            _write_json(folder / MIMI_CONFIG_NAME, mimi_config)
        if tokenizer is not None:
            data["tokenizer_name"] = _copy(folder, tokenizer)
        _write_json(folder / "config.json", data)  # last: without it nothing loads
    except OSError as error:
        raise CheckpointError(f"{str(folder)!r} cannot be written: {error}.") from error
    return folder


def check_free(folder: Path, overwrite: bool = False) -> None:
    """Raise a CheckpointError where a checkpoint would be overwritten unasked."""
    if (folder / "config.json").exists() and not overwrite:
        raise CheckpointError(
            f"{str(folder)!r} holds a checkpoint already: name another folder."
        )


def _save_mimi(folder: Path, mimi: Path | Mimi, dtype: mx.Dtype) -> str:
    if isinstance(mimi, Path):
        return _copy(folder, mimi)
    weights: Weights = dict(tree_flatten(mimi.parameters()))
    for name, w in weights.items():
        if not name.endswith(STATISTICS):
            weights[name] = w.astype(dtype)
    _write_tensors(folder / MIMI_NAME, weights)
    return MIMI_NAME


def _copy(folder: Path, file: Path) -> str:
    if not (folder / file.name).exists() or not file.samefile(folder / file.name):
        _check_space(folder, file.stat().st_size)
        shutil.copyfile(file, folder / file.name)
    return file.name


def _write_tensors(path: Path, weights: Weights) -> None:
    """Write under another name first, so that ``path`` is whole or not there."""
    _check_space(path.parent, sum(w.nbytes for w in weights.values()))
    begun = path.with_name(f"{path.name}.part.safetensors")
    try:
        mx.save_safetensors(str(begun), weights, metadata={"format": "mlx"})
        os.replace(begun, path)
    except RuntimeError as error:  # MLX's word for a failed write
        raise OSError(str(error).splitlines()[0]) from error
    finally:
        begun.unlink(missing_ok=True)


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _check_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise CheckpointError(
            f"{str(folder)!r} has {free / 1e9:.1f} GB free and {size / 1e9:.1f} GB are "
            "to be written: make room, or name a folder on another disk."
        )
