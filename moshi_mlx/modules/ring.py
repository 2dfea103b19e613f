"""Keys and values of the positions that attention can still see.

A stream's positions count up without end, while storage stays bounded: position ``p``
lives in slot ``p % capacity`` of a ring. What a query may see is always derived from
positions, never from the order of slots. Rows of a batch keep positions of their own,
so that they can start, pause and be reset independently.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

ON_HOST = 1024  # cells of a mask


@dataclass(frozen=True, eq=False)
class Plan:
    """Where ``T`` new positions go and what they may see; serves all layers of a stack.

    Attributes:
        b, t: rows B and new positions T.
        start: first new position, an int, or ``[B]`` if rows differ.
        after: position of each row after the call.
        capacity: slots that storage must have.
        slots: slot of the first new position; the others follow, and wrap around at the
            end. If rows differ, each new position's slot ``[B, 1, T, 1]``.
        live: slots to attend to, ``0 .. live``.
        mask: boolean, true = visible, broadcastable to ``[B, 1, T, live]``; None if
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
    ``0 <= pos_q - pos_k < context``. Returns booleans ``[B or 1, 1, T, slots]``. Small
    ones are made on the host, which spares the device some ten operations a frame.
    """
    if isinstance(start, int) and t * slots <= ON_HOST:
        last, queries = start + t - 1, range(start, start + t)
        keys = [last - (last - slot) % slots for slot in range(slots)]
        rows = [[key >= 0 and 0 <= q - key < context for key in keys] for q in queries]
        return mx.array(rows)[None, None]
    start = mx.array(start, dtype=mx.int32).reshape(-1, 1, 1, 1)
    last = start + (t - 1)
    slot = mx.arange(slots)
    key = last - (last - slot) % slots  # latest position that the slot can hold
    age = start + mx.arange(t)[:, None] - key
    return (key >= 0) & (age >= 0) & (age < context)


def _last(offsets: list[int], held: int, capacity: int) -> tuple[mx.array, mx.array]:
    """Slots of each row's last ``held`` positions, and whether it has seen them:
    ``[B, 1, held, 1]`` both."""
    after = mx.array(offsets, dtype=mx.int32)[:, None, None, None]
    position = after - held + mx.arange(held)[:, None]
    return position % capacity, position >= 0


def _laid_out(live: mx.array, offsets: list[int], capacity: int) -> mx.array:
    """A ring ``[B, H, capacity, W]`` that holds each row's last positions."""
    b, h, held, width = live.shape
    empty = mx.zeros((b, h, capacity, width), live.dtype)
    slots, _ = _last(offsets, held, capacity)
    index = mx.broadcast_to(slots, (b, h, held, 1))
    return mx.put_along_axis(empty, index, live, axis=2)


class Ring:
    """Storage of the last positions of a batch of streams, of one layer.

    Storage grows as a stream gets longer, unless ``reserve`` made all of it at once.
    Its bound for calls of T positions is ``max_size + T - 1``, rounded up to a multiple
    of T, so that the writes of a stream with a fixed T never wrap around in the middle.

    Args:
        max_size: positions that a query sees, itself included (the model's context).
        step: slots allocated first; storage then doubles up to its bound.

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
        """Forget everything, or only the given rows of the batch."""
        if rows is None:
            self.stored: tuple[mx.array, ...] = ()
            self.offsets: list[int] = []
        else:
            for row in rows:
                if self.offsets:
                    self.offsets[row] = 0

    @property
    def offset(self) -> int:
        """Number of positions seen, of the row that has seen most."""
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
        """The stored arrays, may be set to others for the same positions."""
        return self.stored

    @state.setter
    def state(self, stored: Sequence[mx.array | None]) -> None:
        self.stored = tuple(array for array in stored if array is not None)

    def snapshot(self, rows: Sequence[int] | None = None) -> dict[str, Any]:
        """What later calls can still see, for ``restore``: part of a ``Snapshot``.

        Arrays ``[B, H, S, W]`` hold each row's last S positions, oldest first; rows
        that have seen fewer begin with zeros.

        Args:
            rows: some rows of the batch; all by default.
        """
        rows = range(len(self.offsets)) if rows is None else rows
        offsets = [self.offsets[row] for row in rows if self.offsets]
        held = min(max(offsets, default=0), self.max_size - 1)
        live: list[mx.array] = []
        if self.stored:
            slots, seen = _last(offsets, held, self.capacity)
            for array in self.stored:
                mine = (
                    array
                    if len(rows) == array.shape[0]
                    else array[mx.array(list(rows))]
                )
                index = mx.broadcast_to(slots, (*mine.shape[:2], held, 1))
                found = mx.take_along_axis(mine, index, axis=2)
                live.append(mx.where(seen, found, mx.zeros_like(found)))
        return {"offsets": offsets, "capacity": self.capacity, "live": live}

    def restore(
        self,
        state: Mapping[str, Any],
        rows: Sequence[int] | None = None,
        batch_size: int = 0,
    ) -> None:
        """Continue from a snapshot; storage that is larger already stays as large.

        Args:
            rows: rows of a batch that continues; by default the snapshot's rows are
                all.
            batch_size: size of that batch.
        """
        offsets, live = list(state["offsets"]), state["live"]
        if rows is None:
            capacity = max(state["capacity"], self.capacity)
            self.offsets = offsets
            self.stored = tuple(_laid_out(array, offsets, capacity) for array in live)
        else:
            laid_out = [
                _laid_out(array, offsets, self.capacity or state["capacity"])
                for array in live
            ]
            if not self.stored:
                self.offsets = [0] * batch_size
                self.stored = tuple(
                    mx.zeros((batch_size, *new.shape[1:]), new.dtype)
                    for new in laid_out
                )
            for row, offset in zip(rows, offsets or [0] * len(rows), strict=True):
                self.offsets[row] = offset
            for array, new in zip(self.stored, laid_out, strict=False):
                array[mx.array(list(rows))] = new
        mx.eval(self.stored)

    def plan(self, b: int, t: int, active: Sequence[bool] | None = None) -> Plan:
        """Plan a call of ``t`` positions in ``b`` rows; inactive rows do not advance.

        What an inactive row writes lands in slots that hold nothing it can still see
        and that its next real positions overwrite.
        """
        offsets = self.offsets or [0] * b
        if len(offsets) != b:
            raise ValueError(
                f"the cache holds {len(offsets)} rows but got {b}: reset it, or make "
                "one cache per batch size."
            )
        capacity = self._capacity_for(t, offsets)
        after = [o + t for o in offsets]
        if active is not None:
            after = [
                a if on else o for a, o, on in zip(after, offsets, active, strict=True)
            ]
        if any(o != offsets[0] for o in offsets):
            starts = mx.array(offsets, dtype=mx.int32)
            slots = (starts[:, None] + mx.arange(t)) % capacity
            mask, live = None, min(max(offsets) + t, capacity)
            if t > 1 or capacity > self.max_size or min(offsets) + 1 < live:
                mask = window_mask(starts, t, live, self.max_size)
            slots = slots[:, None, :, None]
            return Plan(b, t, starts, after, capacity, slots, live, mask)
        start = offsets[0]
        live = min(start + t, capacity)
        mask = None
        if t > 1 or live > self.max_size:
            mask = window_mask(start, t, live, self.max_size)
        return Plan(b, t, start, after, capacity, start % capacity, live, mask)

    def _capacity_for(self, t: int, offsets: list[int]) -> int:
        """Slots that a call of ``t`` positions needs, or are there already."""
        stored, longest = self.capacity, max(offsets) + t
        if stored >= min(longest, self.max_size + t - 1):
            return stored
        return min(self._bound(t, offsets), max(longest, self.step, 2 * stored))

    def _bound(self, t: int, offsets: Sequence[int] = ()) -> int:
        """Most slots that calls of ``t`` positions need."""
        slots = self.max_size + t - 1
        fixed = all(offset % t == 0 for offset in offsets)
        return -(-slots // t) * t if fixed else slots

    @property
    def room(self) -> int:
        """Most positions of one call that need no more storage than a stream's."""
        slots = max(self.capacity, self.max_size)
        return max(slots - self.offset, slots - self.max_size + 1)

    def layout(
        self, rows: int, slots: int, dtype: mx.Dtype
    ) -> list[tuple[tuple[int, ...], mx.Dtype]]:
        """Shape and type of each stored array."""
        raise NotImplementedError

    def reserve(self, rows: int, dtype: mx.Dtype, t: int = 1) -> None:
        """Allocate all storage that a stream of any length needs, before it starts.

        Args:
            rows: number of rows B.
            dtype: type of the keys and values to come.
            t: positions per call.
        """
        layout = self.layout(rows, self._bound(t), dtype)
        self.stored = tuple(mx.zeros(shape, kind) for shape, kind in layout)
        self.offsets = [0] * rows

    def store(self, new: Sequence[mx.array], plan: Plan) -> list[mx.array]:
        """Store arrays ``[B, H, T, W]``; return what the plan attends to."""
        if self.stored and self.capacity < plan.capacity:
            self._grow(plan.capacity)
        old = self.stored or (None,) * len(new)
        self.stored = tuple(
            self._written(*pair, plan) for pair in zip(old, new, strict=True)
        )
        self.offsets = plan.after
        if plan.live < plan.capacity:
            return [array[:, :, : plan.live] for array in self.stored]
        return list(self.stored)

    def oldest_first(self) -> list[mx.array]:
        """All stored positions, in order."""
        held = min(self.offset, self.capacity)
        order = mx.arange(self.offset - held, self.offset) % self.capacity
        return [array[:, :, order] for array in self.stored]

    def _written(self, stored: mx.array | None, new: mx.array, plan: Plan) -> mx.array:
        b, h, t, width = new.shape
        if stored is None or (stored.dtype != new.dtype and not self.offset):
            stored = mx.zeros((b, h, plan.capacity, width), new.dtype)
        if isinstance(plan.slots, int):
            first, before_end = plan.slots, min(t, plan.capacity - plan.slots)
            stored[:, :, first : first + before_end] = new[:, :, :before_end]
            if before_end < t:
                stored[:, :, : t - before_end] = new[:, :, before_end:]
            return stored
        slots = mx.broadcast_to(plan.slots, (b, h, t, 1))
        return mx.put_along_axis(stored, slots, new, axis=2)

    def _grow(self, capacity: int) -> None:
        """Move to a ring with more slots, and free the old one's memory."""
        self.stored = tuple(self._grown(array, capacity) for array in self.stored)
        mx.eval(self.stored)
        mx.clear_cache()

    def _grown(self, stored: mx.array, capacity: int) -> mx.array:
        """The same positions in a ring with more slots."""
        old = stored.shape[2]
        if self.offset <= old:  # every position is in the slot of its own number
            return mx.pad(stored, [(0, 0), (0, 0), (0, capacity - old), (0, 0)])
        last = mx.array(self.offsets, dtype=mx.int32)[:, None] - 1
        slot = mx.arange(capacity)
        position = last - (last - slot) % capacity
        source = (position % old)[:, None, :, None]
        shape = (*stored.shape[:2], capacity, 1)
        return mx.take_along_axis(stored, mx.broadcast_to(source, shape), axis=2)
