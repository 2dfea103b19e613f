"""A model's shape and storage without its weights: from files, or from names alone."""

import re
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..models.lm import Lm
from . import split
from .build import open_lm
from .info import LM_NAMES, CheckpointInfo
from .quantize import PRECISE, Choice, apply, plan, stated_choice


def outline(info: CheckpointInfo) -> tuple[Lm, bool]:
    """The language model without reading its weights, and whether its files are here.

    Files of a hub repository that are not on this machine are not fetched. Then
    anything that is not in config.json is assumed (16-bit floats, or bits by the file's
    name).
    """
    if files_are_here(info):
        return open_lm(info, as_stored=True, shapes_only=True), True
    lm = Lm(info.lm_config)
    lm.set_dtype(mx.bfloat16)
    share_sets(lm)
    if info.quantization:
        apply(lm, plan(lm, _as_stated(info.quantization)).layers)
    elif bits := _named_bits(info):
        apply(lm, plan(lm, lambda _path, _layer: Choice.of(bits)).layers)
    return lm, False


def share_sets(lm: Lm) -> None:
    """Make depth steps with one set of weights share its arrays, as in loaded
    models."""
    dep, first = lm.cfg.depformer, dict[int, int]()
    for step, part in enumerate(lm.depformer.slices):
        if dep.weight_set(step) == dep.input_set(step):
            owner = lm.depformer.slices[first.setdefault(dep.weight_set(step), step)]
            part.linear_in.update(owner.linear_in.parameters())
            part.transformer.update(owner.transformer.parameters())


def files_are_here(info: CheckpointInfo) -> bool:
    """Whether the language model's weights need no download."""
    if info.source.folder is not None or "moshi" in info.given:
        return True
    from huggingface_hub import try_to_load_from_cache

    repo, revision = info.source.repo or "", info.source.revision
    named = info.config.get("moshi_name")
    if named and named.startswith("hf://"):
        return False
    parts = split.FILES if split.is_split(info.stated) else LM_NAMES
    names = [named] if named else parts
    found = (try_to_load_from_cache(repo, name, revision=revision) for name in names)
    return any(isinstance(path, str) for path in found)


def _as_stated(block: dict[str, Any]) -> Any:
    def recipe(path: str, _layer: nn.Module) -> Choice | None:
        return None if path.startswith(PRECISE) else stated_choice(block, path)

    return recipe


def _named_bits(info: CheckpointInfo) -> int | None:
    name = str(info.config.get("moshi_name") or info.source.repo)
    match = re.search(r"[.-]q([2-8])\b", name)
    return int(match[1]) if match else None
