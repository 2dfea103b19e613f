"""A codec's state of its streams: bounded, endless, and reset row by row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from ..modules.attention import LayerCache
from ..modules.conv import State, hold_rows, reset_rows


@dataclass
class HalfState:
    """The encoder's or the decoder's state of a batch of streams."""

    convs: list[State]
    caches: list[LayerCache]

    def reset(self, rows: Sequence[int]) -> None:
        reset_rows(self.convs, rows)
        for cache in self.caches:
            cache.reset(list(rows))

    def before(self, active: Sequence[bool] | None) -> list[State]:
        """What to ``hold`` after a step in which some rows paused."""
        return [] if active is None else [dict(state) for state in self.convs]

    def hold(self, before: list[State], active: Sequence[bool] | None) -> None:
        """Restore the rows that paused to their earlier state."""
        if active is not None:
            hold_rows(self.convs, before, active)

    def snapshot(self, rows: Sequence[int] | None) -> dict[str, Any]:
        """The state of all rows, or of some."""
        convs = [dict(conv) for conv in self.convs]
        if rows is not None:
            index = mx.array(list(rows))
            convs = [{k: v[index] for k, v in conv.items()} for conv in convs]
        return {"convs": convs, "caches": [c.snapshot(rows) for c in self.caches]}

    def restore(
        self, state: Mapping[str, Any], rows: Sequence[int] | None, batch_size: int
    ) -> None:
        """Continue from a snapshot, in all rows or in some."""
        for cache, kept in zip(self.caches, state["caches"], strict=True):
            cache.restore(kept, rows, batch_size)
        for conv, kept in zip(self.convs, state["convs"], strict=True):
            for name, value in kept.items():
                if rows is None:
                    conv[name] = value
                else:
                    conv[name][mx.array(list(rows))] = value

    @property
    def arrays(self) -> list[mx.array]:
        convs = [value for state in self.convs for value in state.values()]
        caches = [a for c in self.caches for a in c.self_attn.state if a is not None]
        return convs + caches


@dataclass
class MimiState:
    """A batch of streams, in both directions."""

    batch_size: int
    encoder: HalfState
    decoder: HalfState

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Make all rows, or the given ones, new streams; the others continue."""
        rows = range(self.batch_size) if rows is None else rows
        for row in rows:
            if not 0 <= row < self.batch_size:
                raise ValueError(
                    f"row {row} was to be reset in a state of {self.batch_size} rows: "
                    f"give 0 to {self.batch_size - 1}."
                )
        self.encoder.reset(rows)
        self.decoder.reset(rows)
        mx.eval(self.arrays)

    @property
    def state(self) -> dict[str, Any]:
        """The state of both halves; may be set to that of a batch with as many rows."""
        return self.snapshot()

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self.restore(state)

    def snapshot(self, row: int | None = None) -> dict[str, Any]:
        """The state of all streams, or of one: part of a ``Snapshot``."""
        rows = None if row is None else [row]
        halves = {"encoder": self.encoder, "decoder": self.decoder}
        return {name: half.snapshot(rows) for name, half in halves.items()}

    def restore(self, state: Mapping[str, Any], row: int | None = None) -> None:
        """Continue from a snapshot's streams, in all rows or in one."""
        rows = None if row is None else [row]
        self.encoder.restore(state["encoder"], rows, self.batch_size)
        self.decoder.restore(state["decoder"], rows, self.batch_size)
        mx.eval(self.arrays)

    @property
    def arrays(self) -> list[mx.array]:
        """All arrays of the state, for ``mx.eval``."""
        return self.encoder.arrays + self.decoder.arrays

    @property
    def nbytes(self) -> int:
        """Bytes of the state: the same after an hour as after ten seconds."""
        return sum(array.nbytes for array in self.arrays)
