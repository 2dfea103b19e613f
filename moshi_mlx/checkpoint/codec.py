"""The codec of a checkpoint: a file of its own, or part of the model's files."""

from ..utils.tensor_files import Weights, read_tensors
from .info import CheckpointInfo


def codec_tensors(info: CheckpointInfo) -> Weights:
    """The codec's tensors, also where they lie among the language model's."""
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
