"""Write a checkpoint folder that can be loaded again: safetensors and config.json."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..errors import CheckpointError
from ..models.mimi import Mimi
from ..utils.json_text import read_json
from ..utils.paths import real_path
from ..utils.tensor_files import Weights, read_header
from .eos import as_stored
from .info import LM_NAMES
from .quantize import Choice, describe

# Keys about the files that were read, not those that are written.
SOURCE_KEYS = {
    *("moshi_name", "mimi_name", "mimi_config_name", "tokenizer_name", "lora_name"),
    *("lora", "lora_rank", "lora_scaling", "quantize", "quantization"),
}
# moshi_mlx 0.3.0 takes bits and groups from the file's name.
NAME_OF = {Choice(32, 4): "model.q4.safetensors", Choice(64, 8): "model.q8.safetensors"}
CONFIG_NAME = "config.json"
REPLACED = "replaced.json"  # the config.json of the checkpoint that is overwritten
MIMI_NAME = "mimi.safetensors"
MIMI_CONFIG_NAME = "mimi_config.json"
STATISTICS = ("cluster_usage", "embedding_sum")  # of the codec, always float32


def save(
    folder: str | Path,
    lm: nn.Module,
    config: Mapping[str, Any],
    *,
    mimi: Path | Mimi | Weights | None = None,
    mimi_config: Mapping[str, Any] | None = None,
    mimi_dtype: mx.Dtype = mx.float32,
    tokenizer: Path | None = None,
    beside: Mapping[str, Path] | None = None,
    image_encoder: nn.Module | None = None,
    names: Callable[[Weights], Weights] | None = None,
    overwrite: bool = False,
) -> Path:
    """Save a language model, plain or quantised, with everything that belongs to it.

    To save a model in the file's own precision, load it with ``as_stored=True``.

    Args:
        config: the config.json that the model was built from; its entries about files,
            adapters and quantisation are replaced.
        mimi: the codec: a file, which is copied; tensors, which are saved as they are;
            or a model, which is saved in ``mimi_dtype``.
        mimi_config: the codec's configuration, if it is not Kyutai's released Mimi.
        tokenizer: file to copy.
        beside: further files to copy, by their names in the folder.
        image_encoder: saved beside the language model, in the same file.
        names: gives the language model's tensors the names of another format.
        overwrite: replace a checkpoint that is there.

    Returns: the folder.
    Raises: CheckpointError if the folder holds a checkpoint already, cannot be
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
    with _whole_or_nothing(folder, name) as begun, as_stored(lm):
        weights: Weights = dict(tree_flatten(lm.parameters()))
        if image_encoder is not None:
            seeing: Weights = dict(tree_flatten(image_encoder.parameters()))
            weights |= {f"image_encoder.{key}": w for key, w in seeing.items()}
        _write_tensors(begun / name, weights if names is None else names(weights))
        if mimi is not None:
            data["mimi_name"] = _save_mimi(begun, mimi, mimi_dtype)
        if mimi_config is not None:
            data["mimi_config_name"] = MIMI_CONFIG_NAME
            _write_json(begun / MIMI_CONFIG_NAME, mimi_config)
        if tokenizer is not None:
            data["tokenizer_name"] = _copy(begun, tokenizer)
        for name, path in (beside or {}).items():
            (begun / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, begun / name)
        _write_json(begun / CONFIG_NAME, data)
    return folder


def check_free(
    folder: Path, overwrite: bool = False, source: Path | None = None
) -> None:
    """Check that a checkpoint may be written to a folder.

    Args:
        overwrite: a checkpoint that is there may be replaced.
        source: the folder that is being read.

    Raises: CheckpointError if an existing one would be overwritten, or if ``folder`` is
        the source, a file, or in a place that cannot be written.
    """
    if source is not None and real_path(folder) == real_path(source):
        raise CheckpointError(
            f"{str(folder)!r} is the checkpoint that is read: name another folder."
        )
    if (folder / CONFIG_NAME).exists() and not overwrite:
        raise CheckpointError(
            f"{str(folder)!r} holds a checkpoint already: name another folder, or "
            "give --overwrite (in Python: overwrite=True)."
        )
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        what = "is a file" if there.is_file() else "may not be written to"
        raise CheckpointError(
            f"{str(folder)!r} cannot be written: {str(there)!r} {what}: name a folder."
        )


@contextmanager
def _whole_or_nothing(folder: Path, weights: str) -> Iterator[Path]:
    """A folder to write into; its files are moved to ``folder`` if everything went
    well.

    A replaced checkpoint loses its config.json first, and the new one comes last: a
    config.json never describes another checkpoint's weights. Old weights under another
    name than ``weights`` are deleted.
    """
    begun, config = folder / ".part", folder / CONFIG_NAME
    above = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        old = _weights_in(folder, begun / REPLACED)  # left by an interrupted run
        shutil.rmtree(begun, ignore_errors=True)
        begun.mkdir(parents=True)
        yield begun
        old += _weights_in(folder, config)
        made = sorted(begun.iterdir(), key=lambda path: path.name == CONFIG_NAME)
        if config.exists():
            os.replace(config, begun / REPLACED)
        for file in made:
            if file.is_dir():  # of voices: those of a replaced checkpoint go
                shutil.rmtree(folder / file.name, ignore_errors=True)
            os.replace(file, folder / file.name)
        for name in {*old} - {weights}:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{str(folder)!r} cannot be written: {error.strerror or error}."
        ) from error
    finally:
        shutil.rmtree(begun, ignore_errors=True)
        for path in above:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def _weights_in(folder: Path, config: Path) -> list[str]:
    """Files of weights in a folder that a config.json describes, if it is there."""
    if not config.is_file():
        return []
    named = read_json(config).get("moshi_name")
    names = (named,) if isinstance(named, str) else LM_NAMES
    return [n for n in names if Path(n).name == n and (folder / n).is_file()]


def _save_mimi(folder: Path, mimi: Path | Mimi | Weights, dtype: mx.Dtype) -> str:
    if isinstance(mimi, Path):
        read_header(mimi)  # only weights are copied, not any file
        return _copy(folder, mimi)
    if isinstance(mimi, Mimi):
        weights: Weights = dict(tree_flatten(mimi.parameters()))
        for name, w in weights.items():
            if not name.endswith(STATISTICS):
                weights[name] = w.astype(dtype)
    else:
        weights = mimi
    _write_tensors(folder / MIMI_NAME, weights)
    return MIMI_NAME


def _copy(folder: Path, file: Path) -> str:
    check_space(folder, file.stat().st_size)
    shutil.copyfile(file, folder / file.name)
    return file.name


def _write_tensors(path: Path, weights: Weights) -> None:
    check_space(path.parent, sum(w.nbytes for w in weights.values()))
    try:
        mx.save_safetensors(str(path), weights, metadata={"format": "mlx"})
    except RuntimeError as error:  # MLX's word for a failed write
        raise OSError(str(error).splitlines()[0].rstrip(".")) from error


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def check_space(folder: Path, size: int) -> None:
    """Raise a CheckpointError if a disk lacks the room for this many bytes."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise CheckpointError(
            f"the disk of {str(folder.parent)!r} has {free / 1e6:,.0f} MB free and "
            f"{size / 1e6:,.0f} MB are needed: free some space, or name a folder on "
            "another disk."
        )
