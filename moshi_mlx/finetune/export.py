"""Write the results of a training for other programs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from ..checkpoint.save import SOURCE_KEYS, check_space
from ..models.lm import Lm
from ..utils.tensor_files import save_tensors
from .settings import TrainSettings
from .trainable import Trainable, zero_adapters


def export_adapters(
    folder: Path,
    trainable: Trainable,
    config: Mapping[str, Any],
    settings: TrainSettings,
    lm: Lm | None = None,
) -> None:
    """Kyutai's ``lora.safetensors``, in bfloat16 like theirs, and ``config.json``.

    Args:
        lm: layers without adapters get adapters of zeros, because moshi's PyTorch
            server needs one for every linear layer.
    """
    whole = {} if lm is None else zero_adapters(lm, settings.rank)
    whole |= trainable.arrays
    arrays = {n: w.astype(mx.bfloat16) for n, w in whole.items()}
    check_space(folder, sum(w.nbytes for w in arrays.values()))
    data = {key: value for key, value in config.items() if key not in SOURCE_KEYS}
    data |= {"lora": True, "lora_rank": settings.rank, "lora_scaling": settings.scale}
    (folder / "config.json").write_text(json.dumps(data, indent=1) + "\n")
    save_tensors(folder / "lora.safetensors", arrays)


def export_weights(folder: Path, lm: Lm, config: Mapping[str, Any]) -> None:
    """All weights, as ``model.safetensors``, and ``config.json``."""
    arrays = dict(tree_flatten(lm.parameters()))
    check_space(folder, sum(w.nbytes for w in arrays.values()))
    data = {key: value for key, value in config.items() if key not in SOURCE_KEYS}
    data["moshi_name"] = "model.safetensors"
    (folder / "config.json").write_text(json.dumps(data, indent=1) + "\n")
    save_tensors(folder / "model.safetensors", arrays)
