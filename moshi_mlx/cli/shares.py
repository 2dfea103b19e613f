"""Files shared by the processes that `mlx.launch` has started."""

import os
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def my_share(things: Sequence[T]) -> list[T]:
    """Every n-th thing, where n processes run side by side; all where one does."""
    if "MLX_RANK" not in os.environ:  # mlx.launch's word for which one this is
        return list(things)
    import mlx.core as mx

    group = mx.distributed.init()
    return list(things[group.rank() :: group.size()])
