"""Events that wait while a model works."""

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wyoming.event import Event


class Backlog:
    """A queue that is full when its events add up to a number of bytes.

    Attributes:
        size: the bytes of the events in it.
    """

    def __init__(self, most: int):
        self._most = most
        self._events: asyncio.Queue[tuple[Event, int]] = asyncio.Queue()
        self.size = 0

    @property
    def full(self) -> bool:
        return self.size >= self._most

    def put(self, event: "Event", size: int) -> None:
        """Add an event of ``size`` bytes; only if it is not full."""
        self._events.put_nowait((event, size))
        self.size += size

    async def get(self) -> "Event":
        """The oldest event, once there is one."""
        event, size = await self._events.get()
        self.size -= size
        return event
