"""Functions of a module's weights that run in every live frame, compiled.

Their shapes are the same in every frame: the graph is built once, its elementwise
operations fused, and replayed without Python after that.
"""

import weakref
from collections.abc import Callable, Hashable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from . import ops
from .conv import State

Function = Callable[..., Any]  # of arrays and None, or trees of them, to the same


class Compiled:
    """Compiled functions of one module, for all who generate with it.

    The first frame runs plain, since layers lay out views of their weights in it.
    Compiled functions hold on to the weights that they were made with: ``refresh``
    drops them where the weights were replaced since.
    """

    def __init__(self, module: nn.Module):
        self._module = module
        self._live = False
        self._frames = 0
        self._weights: list[weakref.ref[mx.array]] = []
        self._functions: dict[Hashable, Function] = {}

    def refresh(self) -> None:
        """Begin anew if a weight is another array now."""
        now = self._arrays()
        seen = [weight() for weight in self._weights]
        if len(now) != len(seen) or any(
            a is not b for a, b in zip(now, seen, strict=True)
        ):
            self._frames = 0
            self._functions.clear()

    def begin(self, live: bool = True) -> None:
        """A frame begins, or something else that is not ``live``: whose shape may not
        come again, so that it is not worth to be compiled."""
        self._live = live
        if live:
            self._frames += 1
            if self._frames == 2:
                self._weights = [weakref.ref(array) for array in self._arrays()]

    def __call__(self, key: Hashable, function: Function) -> Function:
        """``function``, compiled where that works here.

        Args:
            key: tells it from the module's other functions; what it takes from
                elsewhere must follow from the key.
        """
        if not self._live or self._frames < 2 or not ops.compiles():
            return function
        if key not in self._functions:
            self._functions[key] = mx.compile(function)
        return self._functions[key]

    def stage(
        self,
        key: Hashable,
        function: Callable[[mx.array, list[State]], mx.array],
        x: mx.array,
        states: list[State],
    ) -> mx.array:
        """``function(x, states)``, which changes the states in place; compiled too."""

        def pure(x: mx.array, states: list[State]) -> tuple[mx.array, list[State]]:
            states = [dict(state) for state in states]
            return function(x, states), states

        x, after = self(key, pure)(x, states)
        for state, new in zip(states, after, strict=True):
            state.update(new)
        return x

    def _arrays(self) -> list[mx.array]:
        leaves: Any = tree_flatten(self._module.parameters())
        return [array for _, array in leaves]
