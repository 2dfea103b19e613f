"""Wyoming events on the wire: a line of JSON, more JSON, bytes of sound.

The ``wyoming`` package writes them. It does not read them here, because its reader
takes lines, data and sound of any length, and waits for them forever.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ....errors import ProtocolError
from ...tasks import within

if TYPE_CHECKING:
    from wyoming.event import Event


@dataclass(frozen=True)
class Bounds:
    """Limits for one client of this protocol.

    Attributes:
        line_bytes: the line that begins an event.
        data_bytes: the JSON behind it; a long text is here.
        payload_bytes: the sound behind that; 1 MiB is 32 s of 16 kHz.
        event_s: time for the rest of an event, once its first byte has come.
        idle_s: a client that sends nothing for this long is disconnected.
        send_s: a client that reads nothing for this long is disconnected.
        wait_s: how long a request waits for a free row of its model.
        text_chars: characters of one speech.
        heard_s: seconds of sound in one request.
        clients: most connections at a time.
    """

    line_bytes: int = 1 << 16
    data_bytes: int = 1 << 18
    payload_bytes: int = 1 << 20
    event_s: float = 10.0
    idle_s: float = 120.0
    send_s: float = 10.0
    wait_s: float = 10.0
    text_chars: int = 20_000
    heard_s: float = 900.0
    clients: int = 32


async def read_event(reader: asyncio.StreamReader, bounds: Bounds) -> "Event | None":
    """The next event; None at the end of the connection.

    Args:
        reader: made with the limit ``bounds.line_bytes``.

    Raises: ProtocolError for anything that is not a whole event within the bounds;
        TimeoutError if nothing comes for ``idle_s``.
    """
    begun = await within(reader.read(1), bounds.idle_s)
    if not begun:
        return None
    try:
        return await within(_rest(begun, reader, bounds), bounds.event_s)
    except asyncio.TimeoutError:
        raise ProtocolError(
            f"an event began and did not end within {bounds.event_s:g} s."
        ) from None
    except asyncio.IncompleteReadError:
        raise ProtocolError("the connection ended in the middle of an event.") from None


async def _rest(begun: bytes, reader: asyncio.StreamReader, bounds: Bounds) -> "Event":
    from wyoming.event import Event

    try:
        line = begun if begun == b"\n" else begun + await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError:
        raise ProtocolError(
            f"the first line of an event is longer than {bounds.line_bytes} bytes: "
            "put the data behind it, with data_length."
        ) from None
    head = _object(line, "the first line of an event")
    data = _inner(head.get("data"))
    if size := _length(head, "data_length", bounds.data_bytes):
        data |= _object(await reader.readexactly(size), "an event's data")
    payload = None
    if size := _length(head, "payload_length", bounds.payload_bytes):
        payload = await reader.readexactly(size)
    kind = head.get("type")
    if not isinstance(kind, str):
        raise ProtocolError("an event has no type: give it one, as a string.")
    return Event(kind, data, payload)


def _object(text: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ProtocolError(f"{what} is not a JSON object: this port speaks Wyoming.")
    return found


def _inner(data: object) -> dict[str, Any]:
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ProtocolError("an event's data must be a JSON object.")
    return data


def _length(head: dict[str, Any], key: str, most: int) -> int:
    size = head.get(key)
    if size is None:
        return 0
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= most:
        raise ProtocolError(f"an event's {key} must be 0 to {most}.")
    return size


async def write_event(
    event: "Event", writer: asyncio.StreamWriter, bounds: Bounds
) -> None:
    """Send an event.

    Raises: ProtocolError if the client reads nothing for ``send_s``.
    """
    from wyoming.event import async_write_event

    try:
        await within(async_write_event(event, writer), bounds.send_s)
    except asyncio.TimeoutError:
        raise ProtocolError(
            f"the client read nothing for {bounds.send_s:g} s."
        ) from None
