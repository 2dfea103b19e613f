"""The state of a conversation, kept in memory or in a file, and restored.

A snapshot holds the state of a stream and nothing else: keys and values of the
positions that attention can still see, token streams, random state. It names the
weights and settings that it fits; others are refused.

The file is a safetensors file: arrays by name, and in its metadata the format's
version, the weights and settings, and the rest of the state as JSON.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from ..errors import CheckpointError, ConfigError
from ..utils.private_files import new_private
from ..utils.tensor_files import read_header
from ..utils.whole_files import part_of

Fits = Mapping[str, str | int | bool | None]
Tree = Any  # dicts and lists of arrays, numbers, words and None
FORMAT, VERSION = "moshi_mlx.snapshot", 1
ARRAY = "$array"  # stands for an array in the JSON
SAMPLES = 8  # places along each axis of an array that are hashed, at most
MUST_FIT = {  # the difference, and what to do
    "weights": ("of other weights", "load the model that it was taken from"),
    "codec": ("of another codec", "load the model that it was taken from"),
    "dtype": ("of another number type", "load the model in the same type"),
    "kv_bits": ("of other kv_bits", "keep keys and values in the same bits"),
    "rows": ("of another number of rows", "use the same batch size"),
    "sample_rate": ("of another sample rate", "give sound of the same rate"),
    "guided": ("of other guidance", "use guidance in both or in neither"),
}


@dataclass(frozen=True)
class Snapshot:
    """A saved state.

    Attributes:
        kind: "generation", "codec", "conversation", "transcription", "speech" or
            "text".
        fits: what the weights and settings must be to continue from it.
        state: the state itself.
    """

    kind: str
    fits: Fits
    state: Tree

    def check(self, kind: str, fits: Fits) -> None:
        """Check that the snapshot can be continued.

        Raises: ConfigError, in one sentence, for state of another kind, of other
            weights or of other settings.
        """
        if self.kind != kind:
            raise ConfigError(
                f"the snapshot is of a {self.kind} and cannot continue a {kind}: give "
                f"one of a {kind}."
            )
        for name, here in fits.items():
            there = self.fits.get(name)
            if there != here:
                what, instead = MUST_FIT[name]
                raise ConfigError(
                    f"the snapshot is {what} ({there}, here {here}): {instead}."
                )

    def save(self, path: str | Path) -> None:
        """Write a file that only its owner may read, completely or not at all.

        Raises: CheckpointError if it cannot be written.
        """
        arrays: dict[str, mx.array] = {}
        skeleton = _without_arrays(self.state, "state", arrays)
        header = {"kind": self.kind, "fits": dict(self.fits), "state": skeleton}
        metadata = {
            "format": FORMAT,
            "version": str(VERSION),
            "snapshot": json.dumps(header),
        }
        with written_whole(Path(path)) as file:
            mx.save_safetensors(file, arrays, metadata)

    @classmethod
    def load(cls, path: str | Path) -> "Snapshot":
        """Read a file written by ``save``.

        Raises: CheckpointError for a file that is missing, damaged, not a snapshot, or
            of a version that this package does not know.
        """
        if not Path(path).is_file():
            raise CheckpointError(
                f"there is no snapshot {str(path)!r}: check the path."
            )
        try:
            read_header(Path(path))
            loaded: Any = mx.load(str(path), format="safetensors", return_metadata=True)
            arrays, metadata = loaded
            mx.eval(arrays)
        except (CheckpointError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{str(path)!r} is not a snapshot, or is damaged: give a file that "
                "moshi_mlx saved."
            ) from error
        if metadata.get("format") != FORMAT:
            raise CheckpointError(
                f"{str(path)!r} is a safetensors file but no snapshot: give a file "
                "that a snapshot was saved to."
            )
        if metadata.get("version") != str(VERSION):
            raise CheckpointError(
                f"{str(path)!r} has snapshot format {metadata.get('version')}, and "
                f"this moshi_mlx reads format {VERSION}: use the version of moshi_mlx "
                "that saved it."
            )
        try:
            header = json.loads(metadata["snapshot"])
            state = _with_arrays(header["state"], arrays)
            return cls(header["kind"], header["fits"], state)
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            raise CheckpointError(
                f"{str(path)!r} is a damaged snapshot: save it again."
            ) from error


def kept(state: Tree) -> Tree:
    """A copy of the tree with evaluated arrays: later changes do not affect it."""
    if isinstance(state, mx.array):
        return mx.array(state)
    if isinstance(state, Mapping):
        state = {key: kept(value) for key, value in state.items()}
    elif isinstance(state, list | tuple):
        state = [kept(value) for value in state]
    mx.eval(state)
    return state


def fingerprint(module: nn.Module) -> str:
    """A short hash of a module's weights, the same in every process.

    It covers all names, shapes and types, and some numbers of every array: a fine-tuned
    copy differs in some of them.
    """
    leaves: Any = tree_flatten(module.parameters())
    weights = sorted(leaves)
    samples = [_sample(array) for _, array in weights]
    mx.eval(samples)
    digest = hashlib.sha256()
    for (name, array), sample in zip(weights, samples, strict=True):
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(np.array(sample).tobytes())
    return digest.hexdigest()[:16]


def _sample(array: mx.array) -> mx.array:
    """Bytes of a few numbers, spread over the array."""
    strides = [slice(None, None, -(-size // SAMPLES)) for size in array.shape]
    few = (
        mx.contiguous(array[tuple(strides)].reshape(-1)) if array.ndim else array[None]
    )
    return few if few.dtype == mx.bool_ else few.view(mx.uint8)


def _without_arrays(state: Tree, name: str, arrays: dict[str, mx.array]) -> Tree:
    """The tree as JSON; its arrays are added to ``arrays``."""
    if isinstance(state, mx.array):
        arrays[name] = state
        return {ARRAY: name}
    if isinstance(state, Mapping):
        return {k: _without_arrays(v, f"{name}.{k}", arrays) for k, v in state.items()}
    if isinstance(state, list | tuple):
        parts = enumerate(state)
        return [_without_arrays(value, f"{name}.{i}", arrays) for i, value in parts]
    return state


def _with_arrays(state: Tree, arrays: Mapping[str, mx.array]) -> Tree:
    if isinstance(state, dict):
        if ARRAY in state:
            return arrays[state[ARRAY]]
        return {key: _with_arrays(value, arrays) for key, value in state.items()}
    if isinstance(state, list):
        return [_with_arrays(value, arrays) for value in state]
    return state


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A private file (mode 0600) that gets the name ``path`` once it is complete.

    Raises: CheckpointError if it cannot be written; an existing file stays.
    """
    path = path.expanduser()
    begun = part_of(path)
    try:
        begun.unlink(missing_ok=True)  # left by a killed run
        with open(begun, "w+b", opener=new_private) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(begun, path)
    except (OSError, RuntimeError) as error:  # RuntimeError: MLX's, for a failed write
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(
            f"the snapshot {str(path)!r} cannot be written: {reason.rstrip('.')}."
        ) from error
    finally:
        begun.unlink(missing_ok=True)
