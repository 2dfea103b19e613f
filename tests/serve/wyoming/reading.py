"""What a client of Wyoming reads."""

from wyoming.client import AsyncTcpClient
from wyoming.event import Event


async def until(client: AsyncTcpClient, kind: str) -> list[Event]:
    """All events up to the first of a kind; an error only if it is asked for."""
    events = []
    while not events or events[-1].type != kind:
        event = await client.read_event()
        assert event is not None, [e.type for e in events]
        assert kind == "error" or event.type != "error", event
        events.append(event)
    return events
