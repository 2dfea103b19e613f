"""Caches of one layer: for an endless stream, and for a short sequence."""

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx

from .ring import Plan, Ring, window_mask

__all__ = ["KVCache", "Plan", "Ring", "RotatingKVCache", "window_mask"]


class RotatingKVCache(Ring):
    """Ring of the last ``max_size`` positions' keys and values, of one layer.

    Args:
        head_dim: width of a head.
        n_kv_heads: heads of keys and of values.
        keep: only 0 is supported; kept for moshi_mlx 0.3.0's signature.
        max_size, step: see ``Ring``.
    """

    def __init__(
        self,
        head_dim: int,
        n_kv_heads: int,
        max_size: int,
        keep: int = 0,
        step: int = 256,
    ):
        if keep:
            raise ValueError(f"RotatingKVCache got keep={keep}: only 0 is supported.")
        self.head_dim = head_dim
        self.n_kv_heads = n_kv_heads
        super().__init__(max_size, step)

    def layout(
        self, rows: int, slots: int, dtype: mx.Dtype
    ) -> list[tuple[tuple[int, ...], mx.Dtype]]:
        return [((rows, self.n_kv_heads, slots, self.head_dim), dtype)] * 2

    @property
    def keys(self) -> mx.array | None:
        return self.stored[0] if self.stored else None

    @property
    def values(self) -> mx.array | None:
        return self.stored[1] if self.stored else None

    @property
    def state(self) -> tuple[mx.array | None, mx.array | None]:
        """Keys and values as they are stored."""
        return self.keys, self.values

    @state.setter
    def state(self, stored: Sequence[mx.array | None]) -> None:
        self.stored = tuple(array for array in stored if array is not None)

    def update(
        self, keys: mx.array, values: mx.array, plan: Plan
    ) -> tuple[mx.array, mx.array]:
        """Store ``[B, H, T, D]`` keys and values; return what the plan attends to."""
        keys, values = self.store((keys, values), plan)
        return keys, values

    def update_and_fetch(
        self, keys: mx.array, values: mx.array
    ) -> tuple[mx.array, mx.array]:
        """Store ``[B, H, T, D]``; return what is held, oldest first (0.3.0's call)."""
        b, _, t, _ = keys.shape
        self.update(keys, values, self.plan(b, t))
        keys, values = self.oldest_first()
        return keys, values


class KVCache:
    """Keys and values of all positions, joined call by call.

    For sequences of a known, small length: the codebooks of one frame. It has no
    window; use ``RotatingKVCache`` for a stream.
    """

    def __init__(self, head_dim: int, n_kv_heads: int):
        self.head_dim = head_dim
        self.n_kv_heads = n_kv_heads
        self.reset()

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Forget everything (rows cannot be told apart here)."""
        if rows is not None:
            raise ValueError("KVCache resets as a whole: use RotatingKVCache for rows.")
        self.keys: mx.array | None = None
        self.values: mx.array | None = None

    @property
    def offset(self) -> int:
        return 0 if self.keys is None else self.keys.shape[2]

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in (self.keys, self.values) if a is not None)

    @property
    def state(self) -> tuple[mx.array | None, mx.array | None]:
        """Keys and values."""
        return self.keys, self.values

    @state.setter
    def state(self, stored: Sequence[mx.array | None]) -> None:
        self.keys, self.values = stored

    def snapshot(self) -> dict[str, Any]:
        """Everything, for ``restore``: part of a ``Snapshot``."""
        return {"keys": self.keys, "values": self.values}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a snapshot."""
        self.keys, self.values = state["keys"], state["values"]

    def plan(self, b: int, t: int, active: Sequence[bool] | None = None) -> Plan:
        if active is not None:
            raise ValueError("KVCache has no rows of its own: use RotatingKVCache.")
        live = self.offset + t
        mask = window_mask(self.offset, t, live, live) if t > 1 else None
        return Plan(b, t, self.offset, [live] * b, live, self.offset, live, mask)

    def update(
        self,
        keys: mx.array,
        values: mx.array,
        plan: Plan,  # noqa: ARG002 (the ring's signature)
    ) -> tuple[mx.array, mx.array]:
        if self.keys is not None and self.values is not None:
            keys = mx.concatenate([self.keys, keys], axis=2)
            values = mx.concatenate([self.values, values], axis=2)
        self.keys, self.values = keys, values
        return keys, values

    def update_and_fetch(
        self, keys: mx.array, values: mx.array
    ) -> tuple[mx.array, mx.array]:
        return self.update(keys, values, self.plan(keys.shape[0], keys.shape[2]))
