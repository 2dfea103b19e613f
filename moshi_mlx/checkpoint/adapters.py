"""Adapters as others save them: Kyutai's, mlx-lm's, and those of our trainings.

Kyutai: ``lora.safetensors`` with ``PATH.lora_A.weight [rank, in]`` and
``PATH.lora_B.weight [out, rank]`` under their names, ``lora_scaling`` in
``config.json``. mlx-lm: ``adapters.safetensors`` with ``PATH.lora_a [in, rank]`` and
``PATH.lora_b [rank, out]`` under ours, ``lora_parameters`` in ``adapter_config.json``.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..errors import CheckpointError
from ..models.config_values import SCALING
from ..models.schema import check
from ..utils.json_text import read_json
from ..utils.loaders import hf_get
from ..utils.tensor_files import Weights, read_tensors
from ..utils.whole_files import write_whole
from .lora import A, B, split_adapters
from .source import Source

_REPO = re.compile(r"[\w.-]+/[\w.-]+")
KYUTAI, MLX_LM = "lora.safetensors", "adapters.safetensors"
MLX_A, MLX_B = ".lora_a", ".lora_b"
DEFAULT_SCALING = 2.0


@dataclass(frozen=True)
class AdapterFiles:
    """The files of adapters, and what is known of them.

    Attributes:
        weights: the tensors.
        scaling: factor of their change; None if it is not stated.
    """

    weights: Path
    scaling: float | None


def local_adapter(name: str | Path) -> Path:
    """The file or folder of adapters that a user names, fetched if it is on the hub.

    Args:
        name: a folder, a file, ``hf://OWNER/NAME/FILE``, or ``OWNER/NAME``.
    """
    text, path = str(name), Path(name).expanduser()
    if text.startswith(("hf://", "file://")):
        return hf_get(text)
    if path.exists() or not _REPO.fullmatch(text) or path.suffix == ".safetensors":
        return path
    source = Source(repo=text)
    source.first(["adapter_config.json", "config.json"])  # beside the tensors
    found = source.first([KYUTAI, MLX_LM])
    if found is None:
        raise CheckpointError(f"{text} holds no adapters: expected {KYUTAI}.")
    return found


def find_adapter(path: Path) -> AdapterFiles:
    """The adapters that a file or a folder holds.

    A training's folder gives its best adapters, a checkpoint's folder its own.

    Raises: CheckpointError if there are none, or files of two kinds.
    """
    if path.is_dir():
        path = _in_folder(path)
    elif not path.is_file():
        raise CheckpointError(
            f"there are no adapters {str(path)!r}: name a folder with {KYUTAI} or "
            f"{MLX_LM}, or such a file."
        )
    return AdapterFiles(path, _scaling(path))


def _in_folder(folder: Path) -> Path:
    inner = folder / "consolidated"  # of moshi-finetune's checkpoint_000300
    for place in (folder, inner):
        found = [place / n for n in (KYUTAI, MLX_LM) if (place / n).is_file()]
        if len(found) > 1:
            raise CheckpointError(
                f"{str(folder)!r} holds {KYUTAI} and {MLX_LM}: name one of the files."
            )
        if found:
            return found[0]
    raise CheckpointError(
        f"{str(folder)!r} holds no adapters: expected {KYUTAI} or {MLX_LM}."
    )


def _scaling(weights: Path) -> float | None:
    """The content of the file beside the tensors."""
    for name, block, key in (
        ("adapter_config.json", "lora_parameters", "scale"),
        ("config.json", None, "lora_scaling"),
    ):
        file = weights.with_name(name)
        if not file.is_file():
            continue
        data = read_json(file)
        own = data.get(block) if block else data
        value = own.get(key) if isinstance(own, Mapping) else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            check({key: value}, {key: SCALING}, inside=f"of {str(file)!r} ")
            return float(value)
    return None


def is_mlx_lms(weights: Mapping[str, mx.array]) -> bool:
    """Whether tensors are named as mlx-lm names adapters."""
    return any(name.endswith((MLX_A, MLX_B)) for name in weights)


def from_mlx_lm(weights: Mapping[str, mx.array]) -> Weights:
    """mlx-lm's tensors with our names and axes; other tensors stay."""
    found: Weights = {}
    for name, w in weights.items():
        if name.endswith(MLX_A):
            found[name.removesuffix(MLX_A) + A] = w.T
        elif name.endswith(MLX_B):
            found[name.removesuffix(MLX_B) + B] = w.T
        else:
            found[name] = w
    return found


def to_mlx_lm(halves: Mapping[str, mx.array]) -> Weights:
    """Our tensors with mlx-lm's names and axes."""
    found: Weights = {}
    for name, w in halves.items():
        if name.endswith(A):
            found[name.removesuffix(A) + MLX_A] = mx.contiguous(w.T)
        elif name.endswith(B):
            found[name.removesuffix(B) + MLX_B] = mx.contiguous(w.T)
        else:
            found[name] = w
    return found


def mlx_lm_config(halves: Mapping[str, mx.array], scaling: float) -> dict[str, Any]:
    """The content of ``adapter_config.json`` for adapters with our names."""
    _, own = split_adapters(halves)
    rank = next((w.shape[0] for name, w in own.items() if name.endswith(A)), 0)
    keys = sorted(name.removesuffix(A) for name in own if name.endswith(A))
    return {
        "fine_tune_type": "lora",
        "num_layers": -1,
        "lora_parameters": {
            "rank": rank,
            "scale": scaling,
            "dropout": 0.0,
            "keys": keys,
        },
    }


def read_adapter(files: AdapterFiles) -> Weights:
    """The tensors, with the file's names. Raises: CheckpointError if there are none."""
    weights = read_tensors(files.weights)
    if not weights:
        raise CheckpointError(f"{str(files.weights)!r} holds no adapters: it is empty.")
    return weights


def write_config(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON file for people to read."""
    write_whole(path, json.dumps(data, indent=1, sort_keys=True) + "\n")
