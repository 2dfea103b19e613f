"""Sharing files between the processes that `mlx.launch` has started."""

import os
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def my_share(things: Sequence[T]) -> list[T]:
    """Every n-th item if n processes run side by side; all items if one does."""
    if "MLX_RANK" not in os.environ:  # set by mlx.launch: the number of this process
        return list(things)
    import mlx.core as mx

    group = mx.distributed.init()
    return list(things[group.rank() :: group.size()])
