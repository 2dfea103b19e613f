"""Who may talk now, and who waits for it."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

MAX_WAITING = 16  # connections in the queue
MAX_WAITING_EACH = 8  # of one address


class Lobby:
    """A number of places, taken in the order in which people came.

    Args:
        places: conversations at a time.
    """

    def __init__(self, places: int):
        self.places = places
        self.taken = 0
        self._line: list[asyncio.Event] = []
        self._from: Counter[str] = Counter()  # who waits

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._line)

    @property
    def busy(self) -> bool:
        """Whether whoever comes now has to wait."""
        return self.taken >= self.places or self.waiting > 0

    def full(self, address: str = "") -> bool:
        """Whether nobody more of this address may even wait."""
        each = self._from[address] if address else 0
        return self.waiting >= MAX_WAITING or each >= MAX_WAITING_EACH

    async def enter(
        self, tell: Callable[[int], Awaitable[None]], address: str = ""
    ) -> None:
        """Take a place as soon as it is there; give it back with ``leave``.

        Args:
            tell: is called with one's place in the queue, from 1, when it changes.
            address: who waits.
        """
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
                    continue  # things may have changed meanwhile
                moved.clear()
                await moved.wait()
            self.taken += 1
        finally:
            self._line.remove(moved)
            self._from[address] -= 1
            self._from += Counter()  # forgets those who do not wait
            self._move_up()

    def leave(self) -> None:
        """Give a place back."""
        self.taken -= 1
        self._move_up()

    def _move_up(self) -> None:
        for moved in self._line:
            moved.set()
