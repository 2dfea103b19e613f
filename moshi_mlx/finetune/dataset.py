"""Batches of streams: the windows of all recordings, in an endless order."""

from collections.abc import Iterator, Sequence

import mlx.core as mx
import numpy as np

from ..errors import ConfigError
from .examples import Batch, Examples, embedded_of
from .order import Order
from .windows import Windows
from .words import NOTHING


def batch_of(
    windows: Sequence[Windows], places: Sequence[tuple[int, int] | None], plain: bool
) -> Batch:
    """Windows, by source and number, as one batch; None is an empty row.

    Args:
        plain: return only the codes.
    """
    frames = max(w.longest for w in windows)
    rows, starts, numbers, prompts = [], [], [], []
    for place in places:
        source, number = place or (0, 0)
        streams = windows[source][number]
        if place is None:
            streams = np.full_like(streams, NOTHING)
        rest = frames - streams.shape[1]
        rows.append(np.pad(streams, [(0, 0), (0, rest)], constant_values=NOTHING))
        starts.append(windows[source].start(number))
        numbers.append(windows[source].told(number))
        prompts.append(windows[source].prompt(number))
    codes = mx.array(np.stack(rows))
    if plain:
        return codes
    start, told = (mx.array(column, mx.int32) for column in (starts, numbers))
    return Examples(codes, start, told, *embedded_of(prompts))


class Batches:
    """Batches ``[B, 1 + n_q, T]`` of one process, by the number of the micro-batch.

    Args:
        windows: of each source.
        plain: return only the codes, without prompts and conditions.
        batch_size: total of all processes.
        rank, ranks: this process, and the number of processes that share each batch.

    Raises: ConfigError for a batch that the processes cannot share.
    """

    def __init__(
        self,
        windows: Sequence[Windows],
        batch_size: int,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        plain: bool = True,
    ):
        if batch_size % ranks:
            raise ConfigError(
                f"a batch of {batch_size} cannot be shared by {ranks} processes: give "
                f"--batch-size a multiple of {ranks}."
            )
        self._windows = windows
        self._order = Order(
            [len(w) for w in windows], [w.weight for w in windows], seed
        )
        self._size, self._own = batch_size, batch_size // ranks
        self._first = rank * self._own
        self._plain = plain

    def __getitem__(self, number: int) -> Batch:
        first = number * self._size + self._first
        places = [self._order[first + row] for row in range(self._own)]
        return batch_of(self._windows, places, self._plain)


def in_order(
    windows: Sequence[Windows],
    batch_size: int,
    rank: int = 0,
    ranks: int = 1,
    plain: bool = True,
) -> Iterator[Batch]:
    """All windows once, in their order: this process's rows of each batch.

    The last batch is filled with empty rows, so that every process has the same number
    of batches.
    """
    places = [(s, n) for s, found in enumerate(windows) for n in range(len(found))]
    own = batch_size // ranks
    for start in range(0, len(places), batch_size):
        batch: list[tuple[int, int] | None] = [*places[start : start + batch_size]]
        batch += [None] * (batch_size - len(batch))
        yield batch_of(windows, batch[rank * own : (rank + 1) * own], plain)
