"""Low-rank adapters (LoRA): merged into their matrices, or run beside them."""

from collections.abc import Mapping

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from ..errors import CheckpointError
from ..modules.lora import LoraLinear, linear_shape
from ..utils.remap import shown
from ..utils.tensor_files import Weights

A, B = ".lora_A.weight", ".lora_B.weight"
FROZEN = ".frozen_W"  # the base matrix, in state dicts that were saved unmerged


def unfrozen(weights: Mapping[str, mx.array]) -> Weights:
    """Names of an unmerged state dict as those of a plain one."""
    return {name.replace(FROZEN, ""): w for name, w in weights.items()}


def split_adapters(weights: Mapping[str, mx.array]) -> tuple[Weights, Weights]:
    """Whole tensors, and the two matrices of each adapter."""
    halves = {k: w for k, w in weights.items() if k.endswith((A, B))}
    return {k: w for k, w in weights.items() if k not in halves}, halves


def merge(base: Weights, adapters: Weights, scaling: float, what: str) -> Weights:
    """Base tensors with adapters added: ``W + scaling * B @ A``, lazily.

    Whole tensors among the adapters (embeddings, trained with ``ft_embed``) replace
    those of the base. Source: kyutai-labs/moshi, modules/lora.py.

    Args:
        base, adapters: under our names.
        scaling: config.json's ``lora_scaling``.

    Raises: CheckpointError for adapters without their base, or half an adapter.
    """
    whole, halves = split_adapters(adapters)
    stray = set(whole) - set(base)
    matrices = {name.removesuffix(A).removesuffix(B) for name in halves}
    stray |= {m for m in matrices if f"{m}.weight" not in base}
    if stray:
        raise CheckpointError(f"{what} change unknown tensors {shown(stray)}.")
    torn = [m for m in matrices if m + A not in halves or m + B not in halves]
    if torn:
        raise CheckpointError(f"{what} lack one half (A or B) of {shown(torn)}.")
    merged = base | whole
    packed = [m for m in matrices if f"{m}.scales" in base]
    if packed:
        raise CheckpointError(
            f"{what} cannot be merged into quantised matrices ({shown(packed)}): use "
            "the full-precision base, and quantise the result."
        )
    done: dict[tuple[int, int, int], mx.array] = {}  # steps may share a matrix
    for matrix in sorted(matrices):
        name = f"{matrix}.weight"
        w, a, b = merged[name], halves[matrix + A], halves[matrix + B]
        key = (id(base.get(name)), id(a), id(b))
        if key not in done:
            done[key] = _added(w, a, b, scaling, f"{what}: {matrix}")
        merged[name] = done[key]
    return merged


def split_packed(base: Weights, halves: Weights) -> tuple[Weights, Weights]:
    """Adapters of float matrices, to be merged, and those of quantised ones.

    The latter cannot be merged without loss: they run beside their layer (``attach``).
    """
    beside = {
        name: w
        for name, w in halves.items()
        if name.endswith((A, B))
        and f"{name.removesuffix(A).removesuffix(B)}.scales" in base
    }
    return {k: w for k, w in halves.items() if k not in beside}, beside


def fitting_halves(
    halves: Weights, path: str, layer: nn.Module, what: str
) -> tuple[mx.array, mx.array]:
    """A ``[rank, in]`` and B ``[out, rank]`` of the layer that ``path`` names.

    Raises: CheckpointError for half an adapter, or one of another shape.
    """
    a, b = halves.get(path + A), halves.get(path + B)
    if a is None or b is None:
        raise CheckpointError(f"{what} lack one half (A or B) of {path}.")
    rows, columns = linear_shape(layer)
    if a.shape[-1] != columns or b.shape != (rows, len(a)):
        raise CheckpointError(
            f"{what}: {path}: {b.shape} x {a.shape} does not fit the base's "
            f"{(rows, columns)}: the adapters were trained for another model."
        )
    return a, b


def attach(lm: nn.Module, beside: Weights, scaling: float, what: str) -> None:
    """Run adapters beside the layers that they name; the layers stay unchanged.

    Raises: CheckpointError for half an adapter, or one of another shape.
    """
    layers, wrapped = dict(lm.named_modules()), []
    for matrix in sorted({name.removesuffix(A).removesuffix(B) for name in beside}):
        a, b = fitting_halves(beside, matrix, layers[matrix], what)
        wrapped.append((matrix, LoraLinear(layers[matrix], a, b, scaling)))
    lm.update_modules(tree_unflatten(wrapped))


def _added(
    w: mx.array, a: mx.array, b: mx.array, scaling: float, what: str
) -> mx.array:
    if a.shape[-1] != w.shape[1] or b.shape[0] != w.shape[0] or b.shape[1] != len(a):
        raise CheckpointError(
            f"{what}: {b.shape} x {a.shape} does not fit the base's {w.shape}: the "
            "adapters were trained for another model."
        )
    change = b.astype(mx.float32) @ a.astype(mx.float32)
    return (w.astype(mx.float32) + scaling * change).astype(w.dtype)
