"""Reading a codec's weights, in any naming scheme and with any number of codebooks."""

import re
from os import PathLike

import mlx.core as mx

from ..errors import CheckpointError
from ..utils.remap import check_names, remap
from ..utils.tensor_files import load
from .mimi_config import MimiConfig
from .mimi_keys import count_codebooks, mimi_rules, without_surplus_codebooks
from .mimi_transformers import is_transformers, released_names


def read_weights(file: str | PathLike[str]) -> dict[str, mx.array]:
    """The tensors of a file, loaded lazily."""
    try:
        weights = load(file)
    except (OSError, RuntimeError, ValueError, CheckpointError) as error:
        raise CheckpointError(
            f"cannot read Mimi weights from {file} ({error}): is the file whole, and "
            "does its name end in .safetensors?"
        ) from error
    if not isinstance(weights, dict):
        raise CheckpointError(f"{file} holds one array: expected named weights.")
    return weights


def pytorch_weights(
    weights: dict[str, mx.array], cfg: MimiConfig, strict: bool, what: str
) -> dict[str, mx.array]:
    """A published file's tensors with our names, without unused codebooks.

    Raises: CheckpointError when strict, for an unknown name or too few codebooks.
    """
    rules = mimi_rules(cfg)
    if is_transformers(weights):
        weights = released_names(weights, cfg)
    held = count_codebooks(weights)
    if strict and 1 < held < cfg.quantizer_nq:
        raise CheckpointError(
            f"{what}: the file holds {held} codebooks but {cfg.quantizer_nq} were "
            f"asked for: use at most {held}."
        )
    weights = without_surplus_codebooks(weights, cfg)
    if not strict:
        known = [re.compile(rule.source) for rule in rules]
        weights = {
            k: w for k, w in weights.items() if any(r.fullmatch(k) for r in known)
        }
    return remap(weights, rules, what)


def fitted(
    weights: dict[str, mx.array],
    own: dict[str, mx.array],
    cfg: MimiConfig,
    what: str,
    strict: bool,
) -> dict[str, mx.array]:
    """Tensors with our names, in the types and memory order of the model's ``own``.

    Raises: CheckpointError for a wrong shape and, when strict, for other names.
    """
    weights = without_surplus_codebooks(weights, cfg)
    if strict:
        check_names(weights, own, what)
    fitting = {}
    for name in own.keys() & weights.keys():
        w, wanted = weights[name], own[name]
        if w.shape != wanted.shape:
            raise CheckpointError(
                f"{what}: {name} has shape {w.shape} but the config makes it "
                f"{wanted.shape}: the weights belong to another configuration."
            )
        fitting[name] = mx.contiguous(w.astype(wanted.dtype))
    mx.eval(fitting)
    return fitting
