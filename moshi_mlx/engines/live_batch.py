"""Live streams of one model: rows of its batch that come and go.

What every such batch does is here; what a step does is in ``stt.batch``, ``tts.batch``.
"""

from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from time import perf_counter
from typing import Any, Generic, TypeVar

from ..audio.samples import Pcm
from ..errors import NoPlace
from .closing import Closing
from .owner import Owner
from .residency import Residency, count_sessions

Row = TypeVar("Row", bound="LiveRow[Any]")
Told = TypeVar("Told")
B = TypeVar("B", bound="LiveBatch[Any, Any]")


class LiveRow(Closing, Generic[B]):
    """One live stream; ``open`` of its batch makes it.

    Attributes:
        inbox: what the row is to take, in order. Any thread may append.
    """

    inbox: deque[Any]

    def __init__(self, batch: B, row: int):
        self.batch = batch
        self.row = row
        self.inbox = deque()

    def step(self, tick: Pcm) -> Any:
        """Step this row alone; returns its result."""
        return self.batch.step([self], [tick])[0]

    def _computed_by(self) -> Owner:
        return self.batch.owner

    def _drop(self) -> None:
        self.inbox.clear()
        self.batch.leave(self)


class LiveBatch(Closing, Generic[Row, Told]):
    """Live streams of one model, at most ``rows`` at a time.

    Give ``step`` to ``ModelThread.open`` as ``together``, and put a frame into the line
    (any, it is not read) for everything that is put into a row's inbox, and again as
    long as the row has ``more``.

    Args:
        owner: computes.
        rows: how many.
        does: what a row is for, as errors say it.
        residency: of the model, which counts the rows.

    Attributes:
        steps: of the model, since it was made.
    """

    def __init__(self, owner: Owner, rows: int, does: str, residency: Residency | None):
        self.owner = owner
        self.rows = rows
        self.steps = 0
        self._does = does
        self._taken: list[Row | None] = [None] * rows
        self._free_memory = count_sessions(residency, self, rows)

    @property
    def taken(self) -> int:
        """Rows in use."""
        return sum(row is not None for row in self._taken)

    def leave(self, row: Row) -> None:
        """Free a row; a row calls it when it is closed."""
        if self._taken[row.row] is row:
            self._taken[row.row] = None
            self._rest(row.row)

    def step(self, rows: Sequence[Row], ticks: Sequence[object]) -> list[Told]:
        """Step some rows together; returns the result of each."""
        del ticks
        return self.owner.run(lambda: self._step(rows))

    def timed_step(self, rows: Sequence[Row]) -> float:
        """A step of some rows, whose replies nobody wants; returns its seconds, without
        the time in which the thread works for others."""

        def timed() -> float:
            began = perf_counter()
            self._step(rows)
            return perf_counter() - began

        return self.owner.run(timed)

    def _free(self) -> int:
        """A row that nobody has. Raises: NoPlace when all are taken."""
        if None not in self._taken:
            raise NoPlace(
                f"all {self.rows} places to {self._does} are taken: try later."
            )
        return self._taken.index(None)

    @abstractmethod
    def _step(self, rows: Sequence[Row]) -> list[Told]: ...

    @abstractmethod
    def _rest(self, b: int) -> None:
        """Let row ``b``, which nobody has any more, take no part in steps."""

    def _computed_by(self) -> Owner:
        return self.owner

    def _drop(self) -> None:
        for row in self._taken:
            if row is not None:
                row.close()
        self._free_memory()
