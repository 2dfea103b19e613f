"""Who may talk now, and who waits for it."""

import asyncio
from collections.abc import Awaitable, Callable

MAX_WAITING = 16  # connections in the queue


class Lobby:
    """A number of places, taken in the order in which people came.

    Args:
        places: conversations at a time.
    """

    def __init__(self, places: int):
        self.places = places
        self.taken = 0
        self._line: list[asyncio.Event] = []

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._line)

    @property
    def busy(self) -> bool:
        """Whether whoever comes now has to wait."""
        return self.taken >= self.places or self.waiting > 0

    @property
    def full(self) -> bool:
        """Whether nobody more may even wait."""
        return self.waiting >= MAX_WAITING

    async def enter(self, tell: Callable[[int], Awaitable[None]]) -> None:
        """Take a place as soon as it is there; give it back with ``leave``.

        Args:
            tell: is called with one's place in the queue, from 1, when it changes.
        """
        if not self.busy:
            self.taken += 1
            return
        moved = asyncio.Event()
        self._line.append(moved)
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
            self._move_up()

    def leave(self) -> None:
        """Give a place back."""
        self.taken -= 1
        self._move_up()

    def _move_up(self) -> None:
        for moved in self._line:
            moved.set()
