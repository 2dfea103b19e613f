"""Live streams of one model: rows of its batch that come and go.

Everything that such batches share is here; their steps are in ``stt.batch`` and
``tts.batch``.
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
    """One live stream; made by its batch's ``open``.

    Attributes:
        inbox: input for the row, in order. Any thread may append.
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

    Pass ``step`` to ``ModelThread.open`` as ``together``. For each thing put into a
    row's inbox, put a frame into the line (any frame, it is not read), and again as
    long as the row has ``more``.

    Args:
        owner: the thread that computes.
        rows: number of rows.
        does: what a row is for, as errors say it.
        residency: of the model, which counts the rows.

    Attributes:
        steps: number of the model's steps so far.
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
        """Free a row; a row calls this when it is closed."""
        if self._taken[row.row] is row:
            self._taken[row.row] = None
            self._rest(row.row)

    def step(self, rows: Sequence[Row], ticks: Sequence[object]) -> list[Told]:
        """Step some rows together; returns the result of each."""
        del ticks
        return self.owner.run(lambda: self._step(rows))

    def timed_step(self, rows: Sequence[Row]) -> float:
        """Step some rows and discard the replies; returns the seconds, without the time
        that the thread spends on other work."""

        def timed() -> float:
            began = perf_counter()
            self._step(rows)
            return perf_counter() - began

        return self.owner.run(timed)

    def _free(self) -> int:
        """A free row. Raises: NoPlace if all are taken."""
        if None not in self._taken:
            raise NoPlace(
                f"all {self.rows} places to {self._does} are taken: try later."
            )
        return self._taken.index(None)

    @abstractmethod
    def _step(self, rows: Sequence[Row]) -> list[Told]: ...

    @abstractmethod
    def _rest(self, b: int) -> None:
        """Take row ``b``, which is free now, out of the steps."""

    def _computed_by(self) -> Owner:
        return self.owner

    def _drop(self) -> None:
        for row in self._taken:
            if row is not None:
                row.close()
        self._free_memory()
