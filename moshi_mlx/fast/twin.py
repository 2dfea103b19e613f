"""Copies of networks, over the same weights, in their fast forms."""

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import mlx.core as mx
import mlx.nn as nn

M = TypeVar("M", bound=nn.Module)
F = TypeVar("F", bound=type)
KEPT = "_twin"  # where a network keeps its copy: an attribute, not a parameter

# For each exact class of module, the class of its copy.
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
    """A network's copy, with the modules and arrays that it was made from."""

    def __init__(self, twin: Any, network: nn.Module):
        self.twin = twin
        # The network itself is not among its holders: that would be a reference cycle.
        self._own = _places(network)
        self._holders = [(holder, _places(holder)) for holder in _holders(network)]

    def is_of(self, network: nn.Module) -> bool:
        """Whether no weight or layer has been replaced or added since.

        Programs that call a network directly ask before every step.
        """
        return _holds(network, self._own) and all(
            _holds(holder, places) for holder, places in self._holders
        )

    def __deepcopy__(self, memo: dict) -> None:  # a copied network makes its own
        return None

    def __reduce__(self) -> tuple:
        return type(None), ()


class _Copy:
    """Placeholder for attributes that a copy computes itself."""


def ready(network: M, refresh: bool = True) -> M:
    """``network`` in its fast form: made once, and again if weights were replaced.

    The copy computes the same as the network, on the same weights. Its forms choose by
    the device when they run.

    Args:
        refresh: check whether weights or layers were replaced, which takes some
            milliseconds for a large network.
    """
    kept = network.__dict__.get(KEPT)
    if kept is _Copy:
        return network
    if kept is None or (refresh and not kept.is_of(network)):
        network.__dict__[KEPT] = None  # free the old one first
        kept = network.__dict__[KEPT] = _Kept(_twin(network), network)
    return kept.twin


def forget(network: nn.Module) -> None:
    """Drop the fast form of ``network``, and with it any replaced weights."""
    network.__dict__.pop(KEPT, None)


def _holders(network: nn.Module) -> list[Any]:
    """The modules, lists and dicts in a network."""
    found: list[Any] = []
    ahead: list[Any] = [network]
    while ahead:
        holder = ahead.pop()
        values = holder.values() if isinstance(holder, dict) else holder
        inner = [value for value in values if isinstance(value, dict | list)]
        found += inner
        ahead += inner
    return found


def _places(holder: Any) -> dict[Any, Callable[[], Any]]:
    """The modules, lists and arrays in a holder, arrays as weak references.

    Attributes that begin with "_", which a module derives itself, are not included.
    """
    named = holder.items() if isinstance(holder, dict) else enumerate(holder)
    return {
        key: weakref.ref(value) if isinstance(value, mx.array) else _strong(value)
        for key, value in named
        if isinstance(value, dict | list | mx.array) and not str(key).startswith("_")
    }


def _strong(value: Any) -> Callable[[], Any]:
    return lambda: value


def _holds(holder: Any, places: dict[Any, Callable[[], Any]]) -> bool:
    """Whether a holder still holds the same."""
    try:
        if any(holder[key] is not known() for key, known in places.items()):
            return False
    except (KeyError, IndexError):  # it was removed
        return False
    return len(holder) == len(places) or len(_places(holder)) == len(places)


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
        return module  # unknown; ours are copied, as their parts may have forms
    twin = kind.__new__(kind)
    twin.__dict__.update(module.__dict__)
    twin.__dict__[KEPT] = _Copy
    for name, value in module.items():
        twin[name] = value if isinstance(value, mx.array) else _twin(value)
    if hasattr(twin, "made_ready"):
        twin.made_ready()
    return twin
