"""The codec of a checkpoint: a file of its own, or part of the model's files."""

from pathlib import Path
from typing import Any

from ..models.mimi import MimiConfig, mimi_202407
from ..models.mimi_keys import count_codebooks
from ..models.mimi_transformers import is_transformers, released_names
from ..utils.tensor_files import Weights, read_tensors
from .info import CheckpointInfo


def codec_tensors(info: CheckpointInfo) -> Weights:
    """The codec's tensors, even if they are in the language model's files."""
    prefix = info.codec_prefix
    if not prefix:
        return read_tensors(info.mimi_weights)
    found: Weights = {}
    for path in info.moshi_weights:
        found |= {
            name.removeprefix(prefix): w
            for name, w in read_tensors(path).items()
            if name.startswith(prefix)
        }
    return found


def codec_to_save(
    info: CheckpointInfo,
) -> tuple[Path | Weights | None, dict[str, Any] | None]:
    """The codec, to be written into a folder, and its configuration.

    Returns: the checkpoint's file, to be copied; or tensors with Kyutai's names, if
        they come from the transformers library; None for a model without sound.
    """
    if not info.kind.has_codec:
        return None, None
    config = info.mimi_config
    if not info.codec_prefix:
        return info.mimi_weights, config
    weights = codec_tensors(info)
    if config is None or not is_transformers(weights):
        return weights, config
    count = count_codebooks(weights)
    cfg = MimiConfig.from_config_dict(config, count)
    as_released = cfg == mimi_202407(count)
    return released_names(weights, cfg), None if as_released else config
