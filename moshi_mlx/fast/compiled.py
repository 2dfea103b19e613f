"""Functions that run in every live frame, compiled.

Their shapes are the same in every frame: the graph is built once, its elementwise
operations fused, and replayed without Python after that.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import mlx.core as mx

from ..modules.conv import State
from . import ops

Function = Callable[..., Any]  # of arrays and None, or trees of them, to the same


class Compiled:
    """Compiled functions of one network.

    The first frame runs uncompiled: it may be the only one, and it derives what forms
    derive from weights. Compiled functions hold on to the weights that they were made
    with, so each copy of a network has its own.

    Args:
        inputs: lists of arrays that the functions read, and that may be replaced.
    """

    def __init__(self, inputs: Sequence[list[mx.array]] = ()):
        self._inputs = list(inputs) or None
        self._live = False
        self._frames = 0
        self._functions: dict[Hashable, Function] = {}

    def begin(self, live: bool = True) -> None:
        """Start a frame.

        Args:
            live: whether its shape occurs again and again; other frames run uncompiled.
        """
        self._live = live
        self._frames += live

    def __call__(self, key: Hashable, function: Function) -> Function:
        """``function``, compiled if possible.

        Args:
            key: identifies the function; everything that the function takes from
                elsewhere must follow from the key.
        """
        if not self._live or self._frames < 2 or not ops.compiles():
            return function
        if key not in self._functions:
            self._functions[key] = mx.compile(function, self._inputs)
        return self._functions[key]


class Stage:
    """A network ``(x, states) -> x`` that changes its states in place, compiled.

    Args:
        most: longest call worth compiling, along axis 1.
    """

    def __init__(self, network: Callable[[mx.array, list[State]], mx.array], most: int):
        self._most = most
        self._compiled = Compiled()

        def pure(x: mx.array, states: list[State]) -> tuple[mx.array, list[State]]:
            states = [dict(state) for state in states]
            return network(x, states), states

        self._pure = pure

    def __call__(self, x: mx.array, states: list[State]) -> mx.array:
        self._compiled.begin(live=x.shape[1] <= self._most)
        x, after = self._compiled("stage", self._pure)(x, states)
        for state, new in zip(states, after, strict=True):
            state.update(new)
        return x
