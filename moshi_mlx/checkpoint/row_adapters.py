"""Several adapters over one model; each conversation may have its own."""

from collections.abc import Mapping, Sequence

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from ..errors import CheckpointError
from ..models.lm import Lm
from ..modules.lora import RowChoice, RowLoraLinear, linear_shape
from ..utils.remap import shown
from .exchange import Adapters
from .lora import A, B, fitting_halves, split_adapters

Halves = tuple[mx.array, mx.array]  # A [rank, in] and B [out, rank], times its factor
CONDITIONS = "condition_provider."


def attach_rows(lm: Lm, adapters: Sequence[Adapters]) -> None:
    """Run adapters beside a model's layers, chosen for each row of a batch.

    The weights stay as they are, and exist once. Number n of ``RowChoice`` is the n-th
    of ``adapters``, counted from 1. Adapters with a smaller rank are padded with zeros.

    Raises: CheckpointError for an adapter that does not fit the model, and for one that
        changes more than linear layers.
    """
    layers = dict(lm.named_modules())
    found = [_halves(one, layers) for one in adapters]
    lm.adapters, wrapped = RowChoice(), []
    kind = lm.out_norm["weight"].dtype
    stacked: dict[tuple[int, ...], Halves] = {}  # steps may share adapters
    for path in sorted(set().union(*found)):
        shape = linear_shape(layers[path])
        own = [one.get(path) for one in found]
        key = tuple(0 if halves is None else id(halves) for halves in own)
        if key not in stacked:
            stacked[key] = _stacked(own, shape, kind)
        wrapped.append((path, RowLoraLinear(layers[path], *stacked[key], lm.adapters)))
    lm.update_modules(tree_unflatten(wrapped))
    mx.eval([halves for halves in stacked.values()])


def _halves(one: Adapters, layers: Mapping[str, nn.Module]) -> dict[str, Halves]:
    """The two matrices of an adapter by the layer's path, checked."""
    whole, halves = split_adapters(one.weights)
    if whole:
        raise CheckpointError(
            f"{one.what} also replace {shown(sorted(whole))}, which conversations "
            "cannot have of their own: use them alone, or train without "
            "--train-embeddings."
        )
    paths = {name.removesuffix(A).removesuffix(B) for name in halves}
    if stray := [p for p in paths if "weight" not in layers.get(p, {})]:
        raise CheckpointError(f"{one.what} change unknown tensors {shown(stray)}.")
    found: dict[str, Halves] = {}
    known: dict[tuple[int, int], Halves] = {}
    for path in sorted(paths):
        a, b = fitting_halves(halves, path, layers[path], one.what)
        if path.startswith(CONDITIONS):
            _check_untrained(one, path, b)
            continue
        key = id(a), id(b)
        if key not in known:
            known[key] = a.astype(mx.float32), one.scaling * b.astype(mx.float32)
        found[path] = known[key]
    return found


def _check_untrained(one: Adapters, path: str, b: mx.array) -> None:
    if mx.any(b != 0).item():
        raise CheckpointError(
            f"{one.what} change {path}, by which all conversations are told their "
            "conditions: use them alone."
        )


def _stacked(
    own: Sequence[Halves | None], shape: tuple[int, int], kind: mx.Dtype
) -> Halves:
    """``[N, in, rank]`` and ``[N, rank, out]`` of one layer."""
    rows, columns = shape
    rank = max(len(halves[0]) for halves in own if halves is not None)
    none = mx.zeros((0, columns)), mx.zeros((rows, 0))
    filled = []
    for a, b in (none if halves is None else halves for halves in own):
        spare = rank - len(a)
        a, b = mx.pad(a, [(0, spare), (0, 0)]), mx.pad(b, [(0, 0), (0, spare)])
        filled.append((a.T.astype(kind), b.T.astype(kind)))
    return mx.stack([a for a, _ in filled]), mx.stack([b for _, b in filled])
