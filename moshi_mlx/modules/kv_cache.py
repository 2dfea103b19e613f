"""Keys and values of the positions that attention may still look at.

A stream's positions count up without end, while storage stays bounded: position ``p``
lives in slot ``p % capacity`` of a ring. What a query may see is always derived from
positions, never from the order of slots. Rows of a batch keep positions of their own,
so that they can start, pause and be reset independently.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx


@dataclass(frozen=True, eq=False)
class Plan:
    """Where ``T`` new positions go and what they may see; serves all layers of a stack.

    Attributes:
        b, t: rows B and new positions T.
        start: first new position, an int, or ``[B]`` where rows differ.
        after: position of each row after the call.
        capacity: slots that storage must have.
        slots: first slot of a contiguous write, or slot of each new position
            ``[B or 1, 1, T, 1]``.
        live: slots to attend to, ``0 .. live``.
        mask: boolean, true = visible, broadcastable to ``[B, 1, T, live]``; None where
            nothing is hidden.
    """

    b: int
    t: int
    start: int | mx.array
    after: list[int]
    capacity: int
    slots: int | mx.array
    live: int
    mask: mx.array | None


def window_mask(start: int | mx.array, t: int, slots: int, context: int) -> mx.array:
    """Which slots of a ring the positions ``start .. start + t`` may see.

    Exactly ``context`` keys are visible, the query's own included, as in PyTorch:
    ``0 <= pos_q - pos_k < context``. Returns booleans ``[B or 1, 1, T, slots]``.
    """
    start = mx.array(start, dtype=mx.int32).reshape(-1, 1, 1, 1)
    last = start + (t - 1)
    slot = mx.arange(slots)
    key = last - (last - slot) % slots  # newest position that the slot can hold
    age = start + mx.arange(t)[:, None] - key
    return (key >= 0) & (age >= 0) & (age < context)


class Ring:
    """Storage of the last positions of a batch of streams, of one layer.

    Args:
        max_size: positions that a query sees, itself included (the model's context).
        step: slots allocated first; storage then doubles up to its bound, which is
            ``max_size + T - 1`` for the largest call of T positions so far.

    Attributes:
        stored: arrays ``[B, H, capacity, W]`` that hold the positions together.
        offsets: positions that each row has seen.

    Raises: ValueError when the batch size changes in mid-stream.
    """

    def __init__(self, max_size: int, step: int = 256):
        self.max_size = max_size
        self.step = step
        self.reset()

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Forget everything, or what the given rows of the batch have seen."""
        if rows is None:
            self.stored: tuple[mx.array, ...] = ()
            self.offsets: list[int] = []
        else:
            for row in rows:
                if self.offsets:
                    self.offsets[row] = 0

    @property
    def offset(self) -> int:
        """Positions seen so far, by the row that has seen most."""
        return max(self.offsets, default=0)

    @property
    def capacity(self) -> int:
        """Slots of storage."""
        return self.stored[0].shape[2] if self.stored else 0

    @property
    def nbytes(self) -> int:
        """Bytes of storage held."""
        return sum(array.nbytes for array in self.stored)

    @property
    def state(self) -> tuple[mx.array | None, ...]:
        return self.stored

    def plan(self, b: int, t: int, active: Sequence[bool] | None = None) -> Plan:
        """Plan a call of ``t`` positions in ``b`` rows; rows not active do not advance.

        What an inactive row writes lands in slots that hold nothing it can still see
        and that its next real positions overwrite.
        """
        offsets = self.offsets or [0] * b
        if len(offsets) != b:
            raise ValueError(
                f"the cache holds {len(offsets)} rows but got {b}: reset it, or make "
                "one cache per batch size."
            )
        stored = self.capacity
        bound = max(self.max_size + t - 1, stored)
        needed = min(bound, max(offsets) + t)
        capacity = stored
        if needed > stored:
            capacity = min(bound, max(needed, self.step, 2 * stored))
        after = [o + t for o in offsets]
        if active is not None:
            after = [
                a if on else o for a, o, on in zip(after, offsets, active, strict=True)
            ]
        if any(o != offsets[0] for o in offsets):
            starts = mx.array(offsets, dtype=mx.int32)
            slots = (starts[:, None] + mx.arange(t)) % capacity
            mask = None
            if t > 1 or capacity > self.max_size or min(offsets) + 1 < capacity:
                mask = window_mask(starts, t, capacity, self.max_size)
            slots = slots[:, None, :, None]
            return Plan(b, t, starts, after, capacity, slots, capacity, mask)
        start = offsets[0]
        live = min(start + t, capacity)
        slots = start % capacity
        if slots + t > capacity:
            slots = ((start + mx.arange(t)) % capacity)[None, None, :, None]
        mask = None
        if t > 1 or live > self.max_size:
            mask = window_mask(start, t, live, self.max_size)
        return Plan(b, t, start, after, capacity, slots, live, mask)

    def store(self, new: Sequence[mx.array], plan: Plan) -> list[mx.array]:
        """Store arrays ``[B, H, T, W]``; return what the plan attends to."""
        old = self.stored or (None,) * len(new)
        self.stored = tuple(
            self._written(*pair, plan) for pair in zip(old, new, strict=True)
        )
        self.offsets = plan.after
        if plan.live < plan.capacity:
            return [array[:, :, : plan.live] for array in self.stored]
        return list(self.stored)

    def oldest_first(self) -> list[mx.array]:
        """All that is held, in the order of positions."""
        held = min(self.offset, self.capacity)
        order = mx.arange(self.offset - held, self.offset) % self.capacity
        return [array[:, :, order] for array in self.stored]

    def _written(self, stored: mx.array | None, new: mx.array, plan: Plan) -> mx.array:
        b, h, t, width = new.shape
        if stored is None:
            stored = mx.zeros((b, h, plan.capacity, width), new.dtype)
        elif stored.shape[2] < plan.capacity:
            stored = self._grown(stored, plan.capacity)
        if isinstance(plan.slots, int):
            stored[:, :, plan.slots : plan.slots + t] = new
            return stored
        slots = mx.broadcast_to(plan.slots, (b, h, t, 1))
        return mx.put_along_axis(stored, slots, new, axis=2)

    def _grown(self, stored: mx.array, capacity: int) -> mx.array:
        """The same positions in a ring of more slots."""
        old = stored.shape[2]
        last = mx.array(self.offsets, dtype=mx.int32)[:, None] - 1
        slot = mx.arange(capacity)
        position = last - (last - slot) % capacity
        source = (position % old)[:, None, :, None]
        return mx.take_along_axis(
            stored, mx.broadcast_to(source, (*stored.shape[:2], capacity, 1)), axis=2
        )


class RotatingKVCache(Ring):
    """Ring of the last ``max_size`` positions' keys and values, of one layer.

    Args:
        head_dim: width of a head.
        n_kv_heads: heads of keys and of values.
        keep: only 0 is supported; there for moshi_mlx 0.3.0's signature.
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

    @property
    def keys(self) -> mx.array | None:
        return self.stored[0] if self.stored else None

    @property
    def values(self) -> mx.array | None:
        return self.stored[1] if self.stored else None

    @property
    def state(self) -> tuple[mx.array | None, mx.array | None]:
        return self.keys, self.values

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
    """Every position's keys and values, joined call by call.

    For sequences of known, small length: the codebooks of one frame. Without window;
    use ``RotatingKVCache`` for a stream.
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
        return self.keys, self.values

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
