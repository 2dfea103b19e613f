"""Keys and values of one frame of the depth transformer, in one buffer a layer."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from ..modules.kv_cache import Plan, window_mask


class FrameCache:
    """State of one layer in a sequence of known length without a window.

    Keys and values are written together and in place; ``KVCache`` copies all of them
    at each step.

    Args:
        length: positions of the sequence.
        buffer: ``[B, 2 H_kv, length, D]``, the keys' heads first; None before the
            first position.
        offset: positions so far.
    """

    def __init__(self, length: int, buffer: mx.array | None = None, offset: int = 0):
        self.length = length
        self.buffer = buffer
        self.offset = offset

    def plan(self, b: int, t: int, active: Sequence[bool] | None = None) -> Plan:
        if active is not None:
            raise ValueError("FrameCache has no rows of its own: use RotatingKVCache.")
        live = self.offset + t
        mask = window_mask(self.offset, t, live, live) if t > 1 else None
        return Plan(b, t, self.offset, [live] * b, live, self.offset, live, mask)

    def update(self, *new: Any) -> tuple[mx.array, mx.array]:
        """Store keys and values; return all of the sequence so far.

        Args:
            new: both as one array ``[B, 2 H_kv, T, D]``, or one after the other, as
                ``KVCache.update`` takes them; then the plan.
        """
        *parts, plan = new
        both = parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=1)
        start, live = self.offset, plan.live
        if self.buffer is None:
            spare = [(0, 0), (0, 0), (0, self.length - live), (0, 0)]
            self.buffer = mx.pad(both, spare)
        else:
            self.buffer[:, :, start:live] = both
        self.offset = live
        keys, values = mx.split(self.buffer[:, :, :live], 2, axis=1)
        return keys, values
