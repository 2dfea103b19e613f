"""Processes that train together, on one machine or several, with MLX's own engine."""

from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

from .trainable import Arrays


@dataclass
class Ranks:
    """The processes that share each batch; one process alone is the usual case.

    ``mlx.launch -n 2 ...`` starts several; each sees its rows of every batch.
    """

    group: Any = field(default_factory=mx.distributed.init)

    @property
    def rank(self) -> int:
        return self.group.rank()

    @property
    def size(self) -> int:
        return self.group.size()

    @property
    def first(self) -> bool:
        """Whether this process writes and prints for all."""
        return self.rank == 0

    def add(self, x: mx.array) -> mx.array:
        """The sum over all processes, returned to all of them."""
        if self.size == 1:
            return x
        return mx.distributed.all_sum(x, group=self.group, stream=mx.cpu)  # type: ignore[arg-type]

    def any(self, here: bool) -> bool:
        """Whether something is true in any of the processes."""
        return bool(self.add(mx.array(float(here))).item())

    def same(self, arrays: Arrays) -> Arrays:
        """The first process's arrays, for all."""
        if self.size == 1:
            return arrays
        mine = 1.0 if self.first else 0.0
        shared = {name: self.add(arrays[name] * mine) for name in sorted(arrays)}
        mx.eval(shared)
        return shared
