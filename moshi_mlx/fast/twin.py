"""Copies of networks, over the same weights, in their fast forms."""

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

M = TypeVar("M", bound=nn.Module)
F = TypeVar("F", bound=type)
KEPT = "_twin"  # where a network keeps its copy: an attribute, not a parameter

# By the exact class of a module, the class of the copy of one.
_FORMS: dict[type, Callable[[Any], type]] = {}


def form(
    *kinds: type, where: Callable[[Any], bool] = lambda _: True
) -> Callable[[F], F]:
    """Decorate the fast form of modules whose class is one of ``kinds``, exactly.

    Args:
        where: which of these modules it can replace.
    """

    def register(fast: F) -> F:
        for kind in kinds:
            _FORMS[kind] = lambda module: fast if where(module) else type(module)
        return fast

    return register


class _Kept:
    """A network's copy, with the modules and arrays that it was made of."""

    def __init__(self, twin: Any, network: nn.Module):
        self.twin = twin
        self._parts = [weakref.ref(part) for part in _parts(network)]

    def is_of(self, network: nn.Module) -> bool:
        """Whether no weight or layer was replaced since."""
        now = _parts(network)
        return len(now) == len(self._parts) and all(
            known() is part for known, part in zip(self._parts, now, strict=True)
        )

    def __deepcopy__(self, memo: dict) -> None:  # a copied network makes its own
        return None

    def __reduce__(self) -> tuple:
        return type(None), ()


class _Copy:
    """Stands in a copy's place for what it would keep."""


def ready(network: M, refresh: bool = True) -> M:
    """``network`` in its fast form: made once, and again if weights were replaced.

    The copy computes what the network does, on the same weights. Its forms are chosen
    by the device when they run.

    Args:
        refresh: look whether weights or layers were replaced; takes some milliseconds
            for a large network.
    """
    kept = network.__dict__.get(KEPT)
    if kept is _Copy:
        return network
    if kept is None or (refresh and not kept.is_of(network)):
        network.__dict__[KEPT] = None  # let go of the old one first
        kept = network.__dict__[KEPT] = _Kept(_twin(network), network)
    return kept.twin


def forget(network: nn.Module) -> None:
    """Drop the fast form of ``network``, and with it weights that were replaced."""
    network.__dict__.pop(KEPT, None)


def _parts(network: nn.Module) -> list[Any]:
    arrays: Any = tree_flatten(network.parameters())
    return [m for _, m in network.named_modules()] + [array for _, array in arrays]


def _twin(module: Any) -> Any:
    """The fast form of a module, or of a list of modules."""
    if isinstance(module, list):
        return [_twin(child) for child in module]
    if not isinstance(module, nn.Module):
        return module
    kind: Any = type(module)
    if kind in _FORMS:
        kind = _FORMS[kind](module)
    elif not kind.__module__.startswith("moshi_mlx."):
        return module  # not known; ours are copied, as their parts may have forms
    twin = kind.__new__(kind)
    twin.__dict__.update(module.__dict__)
    twin.__dict__[KEPT] = _Copy
    for name, value in module.items():
        twin[name] = value if isinstance(value, mx.array) else _twin(value)
    if hasattr(twin, "made_ready"):
        twin.made_ready()
    return twin
