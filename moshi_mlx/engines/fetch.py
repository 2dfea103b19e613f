"""Find a checkpoint and fetch its files, before anything is computed.

Downloads run on the caller's thread: the model thread continues its work, and Ctrl-C
stops them.
"""

from pathlib import Path
from typing import Literal

from ..checkpoint.info import CheckpointInfo
from ..checkpoint.licence import tell_licence


def found(
    name: str | Path,
    info: CheckpointInfo | None,
    *,
    quantize: int | None = None,
    revision: str | None = None,
    kv_bits: int | None = None,
    kind: Literal["stt", "tts"] | None = None,
    adapter: str | Path | None = None,
) -> CheckpointInfo:
    """The checkpoint with this name, unless one was found already."""
    if info is not None:
        return info
    return CheckpointInfo.find(
        name,
        revision=revision,
        lora_weights=adapter,
        kind=kind,
        bits=quantize,
        kv_bits=kv_bits,
    )


def fetched(info: CheckpointInfo) -> CheckpointInfo:
    """The same, with all files of the model on this machine.

    Raises: CheckpointError if one is missing or cannot be fetched.
    """
    tell_licence(info)
    kind = info.kind
    if kind.engine != "codec":
        _ = info.tokenizer, info.moshi_weights, info.lora_weights
    if kind.sees:
        _ = info.image_weights
    if kind.has_codec:
        _ = info.mimi_weights, info.mimi_config
    return info
