"""Adapters from one program for another: Kyutai's files and mlx-lm's, both ways."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx

from ..errors import CheckpointError
from ..models.kyutai_names import kyutai_name
from ..models.schema import without_nulls
from ..utils.remap import shown
from ..utils.tensor_files import Weights, save_tensors
from ..utils.whole_files import whole_file
from .adapters import (
    DEFAULT_SCALING,
    KYUTAI,
    MLX_LM,
    find_adapter,
    mlx_lm_config,
    read_adapter,
    to_mlx_lm,
    write_config,
)
from .info import CheckpointInfo
from .lora import A, B
from .reading import rename_adapter
from .save import SOURCE_KEYS, check_space


class Adapters(NamedTuple):
    """Tensors with our names, their factor, and a description."""

    weights: Weights
    scaling: float
    what: str


def adapters_of(info: CheckpointInfo, path: Path) -> Adapters:
    """Adapters for a model, from either program's file or folder.

    Raises: CheckpointError for a tensor that the model does not have.
    """
    files = find_adapter(path)
    what = f"the adapters in {files.weights}"
    weights = rename_adapter(read_adapter(files), info.lm_config, what)
    stated = without_nulls(info.config).get("lora_scaling", DEFAULT_SCALING)
    return Adapters(
        weights, float(stated) if files.scaling is None else files.scaling, what
    )


def save_as_mlx_lm(info: CheckpointInfo, path: Path, out: Path) -> None:
    """Write ``adapters.safetensors`` and ``adapter_config.json``."""
    weights, scaling, _ = adapters_of(info, path)
    config = mlx_lm_config(weights, scaling) | {"model": info.name}
    _write(out, MLX_LM, to_mlx_lm(weights), "adapter_config.json", config)


def save_as_kyutai(info: CheckpointInfo, path: Path, out: Path) -> None:
    """Write ``lora.safetensors`` and ``config.json``.

    Raises: CheckpointError if layers that share weights have different adapters.
    """
    weights, scaling, what = adapters_of(info, path)
    named = kyutai_names(info, weights, what)
    rank = next((w.shape[0] for name, w in named.items() if name.endswith(A)), 0)
    config = {k: v for k, v in info.config.items() if k not in SOURCE_KEYS}
    config |= {"lora": True, "lora_rank": rank, "lora_scaling": scaling}
    _write(out, KYUTAI, named, "config.json", config)


def kyutai_names(info: CheckpointInfo, weights: Weights, what: str) -> Weights:
    """Tensors of adapters with Kyutai's names."""
    named: Weights = {}
    differing = []
    for name, w in weights.items():
        end = next((e for e in (A, B, ".weight") if name.endswith(e)), "")
        theirs = kyutai_name(info.lm_config, name.removesuffix(end)) + end
        known = named.setdefault(theirs, w)
        if known is not w and not mx.array_equal(known, w).item():
            differing.append(name)
    if differing:
        raise CheckpointError(
            f"{what} change layers that share weights in different ways "
            f"({shown(differing)}), which Kyutai's files cannot hold."
        )
    return named


def _write(
    out: Path, name: str, weights: Weights, config_name: str, config: dict[str, Any]
) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        check_space(out, sum(w.nbytes for w in weights.values()))
        with whole_file(out / name) as begun:
            save_tensors(begun, weights, {"format": "mlx"})
        write_config(out / config_name, json.loads(json.dumps(config)))
    except OSError as error:
        words = error.strerror or str(error)
        raise CheckpointError(f"{str(out)!r} cannot be written: {words}.") from error
