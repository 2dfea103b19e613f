"""Events that wait while a model works."""

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wyoming.event import Event


class Backlog:
    """A queue that is full when the events in it came in so many bytes.

    Attributes:
        size: those bytes.
    """

    def __init__(self, most: int):
        self._most = most
        self._events: asyncio.Queue[tuple[Event, int]] = asyncio.Queue()
        self.size = 0

    @property
    def full(self) -> bool:
        return self.size >= self._most

    def put(self, event: "Event", size: int) -> None:
        """Add an event that came in ``size`` bytes; only where it is not full."""
        self._events.put_nowait((event, size))
        self.size += size

    async def get(self) -> "Event":
        """The oldest event, once there is one."""
        event, size = await self._events.get()
        self.size -= size
        return event
