"""Checkpoint folders on disk, small and random, for the tests beside."""

import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from moshi_mlx.checkpoint.build import load_lm
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.models.lm import Lm
from tests.tiny import BASE, DATA, Config, Weights, pytorch_weights


def write(
    folder: Path,
    weights: Weights | None = None,
    config: Config | None = None,
    name: str = "model.safetensors",
    **changes: Any,
) -> Path:
    """A folder with config.json (``BASE`` and changes) and weights (random)."""
    config = {**(BASE if config is None else config), **changes}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    weights = pytorch_weights(config) if weights is None else weights
    mx.save_safetensors(str(folder / name), weights)
    return folder


def write_with_codec(folder: Path, **changes: Any) -> Path:
    """A folder as ``write`` makes it, with the golden codec and tokenizer in it."""
    names = {
        "mimi_name": "mimi.safetensors",
        "mimi_config_name": "mimi_config.json",
        "tokenizer_name": "tokenizer.model",
    }
    write(folder, **names, **changes)
    for name in names.values():
        shutil.copy(DATA / "tts" / name, folder)
    return folder


def load(folder: Path, **options: Any) -> Lm:
    return load_lm(CheckpointInfo.find(folder), **options)


def tensors(lm: nn.Module) -> Weights:
    return dict(tree_flatten(lm.parameters()))


def assert_equal(found: Lm, expected: Lm) -> None:
    """The same tensors under the same names, bit by bit."""
    others, wanted = tensors(found), tensors(expected)
    assert others.keys() == wanted.keys()
    for name, tensor in wanted.items():
        other = others[name]
        assert other.dtype == tensor.dtype, name
        assert mx.array_equal(other, tensor), name
