"""What a program asks of the device, call by call."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import mlx.core as mx
import numpy as np

START, WAIT, READ = "start", "wait", "read"


@contextmanager
def device_calls() -> Iterator[list[str]]:
    """The calls in which arrays are computed, in their order.

    "start" computes in the background, "wait" and "item" wait for what is asked for,
    "read" copies an array into NumPy's memory: it waits too, unless that array was
    waited for already.
    """
    calls: list[str] = []

    def noted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if name != READ or isinstance(args[0], mx.array):
                calls.append(name)
            return function(*args, **options)

        return call

    with (
        patch.object(mx, "async_eval", noted(START, mx.async_eval)),
        patch.object(mx, "eval", noted(WAIT, mx.eval)),
        patch.object(np, "array", noted(READ, np.array)),
        patch.object(mx.array, "item", noted("item", mx.array.item)),
        patch.object(mx.array, "tolist", noted("item", mx.array.tolist)),
    ):
        yield calls
