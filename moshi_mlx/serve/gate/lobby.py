"""Which clients may talk now, and which ones wait in a queue."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from ..tasks import within

MAX_WAITING = 16  # connections in the queue
MAX_WAITING_EACH = 8  # of one address


class Lobby:
    """A number of places, given to clients in the order of their arrival.

    Args:
        places: number of conversations at a time.
    """

    def __init__(self, places: int):
        self.places = places
        self.taken = 0
        self._line: list[asyncio.Event] = []
        self._from: Counter[str] = Counter()  # number of waiting clients by address

    @property
    def waiting(self) -> int:
        """Number of clients that wait."""
        return len(self._line)

    @property
    def busy(self) -> bool:
        """Whether a new client has to wait."""
        return self.taken >= self.places or self.waiting > 0

    def full(self, address: str = "") -> bool:
        """Whether a new client of this address may not even wait."""
        each = self._from[address] if address else 0
        return self.waiting >= MAX_WAITING or each >= MAX_WAITING_EACH

    async def enter(
        self,
        tell: Callable[[int], Awaitable[None]],
        address: str = "",
        patience_s: float | None = None,
    ) -> None:
        """Take a place as soon as there is one; give it back with ``leave``.

        Whoever is cancelled or loses patience has taken none.

        Args:
            tell: called with the client's place in the queue, from 1, when it changes.
            address: of the client.
            patience_s: how long to wait; None for as long as it takes.

        Raises: asyncio.TimeoutError when ``patience_s`` is over.
        """
        loop = asyncio.get_running_loop()
        until = None if patience_s is None else loop.time() + patience_s
        if not self.busy:
            self.taken += 1
            return
        moved = asyncio.Event()
        self._line.append(moved)
        self._from[address] += 1
        told = None
        try:
            while self._line[0] is not moved or self.taken >= self.places:
                place = self._line.index(moved) + 1
                if place != told:
                    told = place
                    await tell(place)
                    continue  # check again: things may have changed
                moved.clear()
                await within(
                    moved.wait(), None if until is None else until - loop.time()
                )
            self.taken += 1
        finally:
            self._line.remove(moved)
            self._from[address] -= 1
            self._from += Counter()  # removes zeros
            self._move_up()

    def leave(self) -> None:
        """Give a place back."""
        self.taken -= 1
        self._move_up()

    def _move_up(self) -> None:
        for moved in self._line:
            moved.set()
