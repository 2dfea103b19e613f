"""The quantisation of a file's layers, read from the shapes of their tensors."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..errors import CheckpointError, ConfigError
from .quantize import FIXED_MODES, Choice, quantizable, stated_choice


def find_quantization(
    lm: nn.Module, weights: Mapping[str, mx.array], stated: Mapping[str, Any], what: str
) -> dict[str, Choice]:
    """The quantisation of each layer of a file, by its tensors' shapes and its config.

    Raises: CheckpointError for shapes that fit no quantisation, or not the config's.
    """
    layers = quantizable(lm)
    found: dict[str, Choice] = {}
    for name, scales in weights.items():
        path, _, part = name.rpartition(".")
        if part != "scales":
            continue
        packed = weights.get(f"{path}.weight")
        if path not in layers or packed is None:
            raise CheckpointError(f"{what}: {name} belongs to no layer of the model.")
        width = layers[path]["weight"].shape[-1]
        choice = _measure(packed, scales, f"{path}.biases" in weights, width)
        said = stated_choice(stated, path)
        if choice is None or (said is not None and said != choice):
            raise CheckpointError(
                f"{what}: {path} is packed {packed.shape} with scales {scales.shape}, "
                f"which is {choice or 'not a known quantisation'}"
                + (f" and not {said} as config.json says." if said else ".")
            )
        found[path] = choice
    return found


def _measure(
    packed: mx.array, scales: mx.array, affine: bool, width: int
) -> Choice | None:
    """The quantisation of a layer with ``width`` inputs."""
    groups, words = scales.shape[-1], packed.shape[-1]
    if packed.dtype != mx.uint32 or width % groups or words * 32 % width:
        return None
    group_size, bits = width // groups, words * 32 // width
    modes = {shape: mode for mode, shape in FIXED_MODES.items()}
    mode = "affine" if affine else modes.get((group_size, bits))
    try:
        return None if mode is None else Choice(group_size, bits, mode)
    except ConfigError:
        return None


def check_bits(layers: Mapping[str, Choice], asked: int | None, name: str) -> None:
    """Raise a ConfigError if a user asked for bits that no layer has."""
    counts = Counter(choice.bits for choice in layers.values())
    if asked is not None and counts and asked not in counts:
        common = counts.most_common(1)[0][0]
        raise ConfigError(
            f"{name} is quantised to {common} bits and '-q {asked}' asks for {asked}: "
            "leave '-q' out, or start from a full-precision checkpoint."
        )


def widen_tables(
    weights: Mapping[str, mx.array], layers: Mapping[str, Choice], lm: nn.Module
) -> tuple[dict[str, mx.array], dict[str, Choice]]:
    """Tables in a floating mode as plain ones, because a look-up there only gives
    bfloat16.

    Returns: the tensors, and the layers that are still quantised.
    """
    dense, packed = dict(weights), dict(layers)
    modules = quantizable(lm)
    for path, choice in layers.items():
        if choice.mode == "affine" or isinstance(modules[path], nn.Linear):
            continue
        del packed[path]
        dense[f"{path}.weight"] = mx.dequantize(
            weights[f"{path}.weight"],
            dense.pop(f"{path}.scales"),
            group_size=choice.group_size,
            bits=choice.bits,
            mode=choice.mode,  # type: ignore[arg-type]
            dtype=weights["out_norm.weight"].dtype,
        )
    return dense, packed
