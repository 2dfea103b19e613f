"""PersonaPlex: NVIDIA's Moshi, which also predicts the codes of the user's side.

Its config.json states its model_type, ``personaplex``, and its version, but not the
network. That is Moshi 7B's, except for a depth transformer of 16 steps, the last eight
for the user's codes.
Source: NVIDIA/personaplex, moshi/models/loaders.py.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..utils.tensor_files import read_header

NAME = "personaplex"
ARCHIVE, VOICES = "voices.tgz", "voices"  # a file, or a folder of files
ENDINGS = ".safetensors", ".pt"  # of voices
STEPS = 16  # of the depth transformer, half of them for the user's codes
_STEP = re.compile(r"(?:depformer_in|depformer\.slices|linears|depformer)\.(\d+)\..+")


def is_personaplex(data: Mapping[str, Any], name: str) -> bool:
    """Whether a config without a network is PersonaPlex's.

    Args:
        name: of the checkpoint, as the user gave it.
    """
    return NAME in (str(data.get("model_type")) + name).lower()


def has_its_streams(data: Mapping[str, Any]) -> bool:
    """Whether a Moshi's config has a depth step for each of its 16 streams.

    Programs that fine-tune PersonaPlex write such configs, without a model_type.
    """
    return (data.get("n_q"), data.get("dep_q")) == (STEPS, STEPS)


def voices_listed(data: Mapping[str, Any]) -> list[str]:
    """Names of voices that a config lists, as speech-swift's does."""
    listed = data.get("voices")
    names = listed if isinstance(listed, list) else []
    return [name for name in names if isinstance(name, str) and "/" not in name]


def completed(data: Mapping[str, Any]) -> dict[str, Any]:
    """What distinguishes PersonaPlex's config from Moshi 7B's."""
    streams = data.get("n_q", STEPS)
    steps = data.get("dep_q", streams)
    found = {"dep_q": steps, **data, "model_type": NAME}
    if type(streams) is int and type(steps) is int:  # else it is refused by its reader
        found.setdefault("foreseen_codebooks", max(steps - streams // 2, 0))
    return found


def is_of_its_shape(weights: Path | None) -> bool:
    """Whether a file without config.json is PersonaPlex's: Moshi 7B, the usual model in
    such files, has eight steps."""
    try:
        names = [] if weights is None else list(read_header(weights))
    except CheckpointError:
        return False  # reading it will say why
    steps = [int(match[1]) for name in names if (match := _STEP.fullmatch(name))]
    return max(steps, default=0) + 1 == STEPS
