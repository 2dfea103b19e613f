"""The tensors of a language model's files with our names, and its adapters."""

import logging
from typing import NamedTuple

import mlx.core as mx

from ..models.config import LmConfig
from ..models.keys import SLICES, pytorch_rules, weight_sets
from ..models.schema import without_nulls
from ..utils.remap import remap
from ..utils.tensor_files import Weights, read_tensors
from . import moshivis, split
from .adapters import (
    DEFAULT_SCALING,
    find_adapter,
    from_mlx_lm,
    is_mlx_lms,
    read_adapter,
)
from .formats import format_of, rename, widen_int8
from .info import CheckpointInfo
from .lora import merge, split_adapters, split_packed, unfrozen
from .user_steps import own_steps, plain_names

logger = logging.getLogger(__name__)


class Beside(NamedTuple):
    """Adapters that run beside quantised layers: tensors, factor, and a description."""

    weights: Weights
    scaling: float
    what: str


def read_weights(
    info: CheckpointInfo,
    cfg: LmConfig,
    what: str,
    widened: mx.Dtype,
    shapes_only: bool = False,
) -> tuple[Weights, Beside]:
    """The tensors with our names, adapters merged if possible; still lazy.

    Args:
        widened: the type that int8 ones become.
    """
    weights: Weights = {}
    for path in info.moshi_weights:
        weights |= split.placed(path, read_tensors(path, shapes_only))
    found = format_of(weights, what)
    logger.info("%s are in %s format", what, found.name)
    if cfg.vision is not None:
        weights = moshivis.language_part(weights, what)
    named = rename(weights, found, cfg, what, widened)
    base, halves = split_adapters(named)
    scaling = float(without_nulls(info.config).get("lora_scaling", DEFAULT_SCALING))
    if info.lora_weights is not None:
        files = find_adapter(info.lora_weights)
        scaling = scaling if files.scaling is None else files.scaling
        text = f"the adapters in {files.weights}"
        halves |= rename_adapter(read_adapter(files), cfg, text, widened)
    text, beside = f"the adapters of {info.name}", Weights()
    if halves:
        halves, beside = split_packed(base, halves)
        base = merge(base, halves, scaling, text)
    return share_slices(base, cfg), Beside(beside, scaling, text)


def rename_adapter(
    weights: Weights, cfg: LmConfig, what: str, widened: mx.Dtype = mx.float32
) -> Weights:
    """Tensors of adapters with our names, which mlx-lm's have already.

    Raises: CheckpointError for a tensor that Kyutai's models do not have.
    """
    if is_mlx_lms(weights):
        return from_mlx_lm(weights)
    sets, steps = weight_sets(weights), cfg.depformer.num_slices
    if sets is not None and 2 * sets != steps:  # adapters of some layers, or of all
        sets = None
    weights = own_steps(plain_names(widen_int8(unfrozen(weights), widened)), cfg)
    return remap(weights, pytorch_rules(cfg, sets), what)


def share_slices(weights: Weights, cfg: LmConfig) -> Weights:
    """Make steps of the depth transformer with one weight set share its arrays.

    MLX files repeat a set for each of its steps; one copy is enough in memory.
    """
    shared = dict(weights)
    dep = cfg.depformer
    first: dict[int, int] = {}
    for step in range(dep.num_slices):
        if dep.weight_set(step) != dep.input_set(step):
            continue
        owner = first.setdefault(dep.weight_set(step), step)
        for part in ("linear_in.", "transformer."):
            prefix = f"{SLICES}.{step}.{part}"
            for name in [n for n in weights if n.startswith(prefix)]:
                original = f"{SLICES}.{owner}.{part}{name.removeprefix(prefix)}"
                shared[name] = shared.get(original, weights[name])
    return shared
