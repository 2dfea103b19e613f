"""Weights laid out anew for computing, once per set of weights."""

from collections.abc import Callable
from operator import is_
from typing import Generic, TypeVar

import mlx.core as mx

T = TypeVar("T")


class Derived(Generic[T]):
    """What is computed from parameters once, and anew when they are replaced.

    ``compute`` evaluates its result: a lazy array could not cross to another thread.
    """

    def __init__(self, compute: Callable[..., T]):
        self._compute = compute
        self._sources: tuple[mx.array, ...] = ()
        self._values: list[T] = []

    def __call__(self, *sources: mx.array) -> T:
        known = self._values and all(map(is_, sources, self._sources))
        if not known:
            self._values = [self._compute(*sources)]
            self._sources = sources
        return self._values[0]
