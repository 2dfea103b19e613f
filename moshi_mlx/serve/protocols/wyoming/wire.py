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

# What we use of an event's data. The rest is dropped at once: it may be large.
_USED = ("text", "text_format", "voice", "language", "rate", "width", "channels")


@dataclass(frozen=True)
class Bounds:
    """Limits for one client of this protocol.

    Attributes:
        line_bytes: the line that begins an event.
        data_bytes: the JSON behind it; a long text is here.
        payload_bytes: the sound behind that; 1 MiB is 32 s of 16 kHz.
        waiting_bytes: of events that wait for a model; then no more are read.
        event_s: time for the rest of an event, once its first byte has come.
        idle_s: a client that sends nothing for this long is disconnected.
        sound_pause_s: likewise, in the middle of a sound.
        text_pause_s: likewise, in the middle of a text.
        request_s: the longest that one request may take.
        send_s: a client that reads nothing for this long is disconnected.
        linger_s: time to read the last bytes, after which the connection is cut.
        wait_s: how long a request waits for a free row of its model.
        text_chars: characters of one speech.
        heard_s: seconds of sound in one request.
        clients, per_address: most connections at a time, in all and from one address.
    """

    line_bytes: int = 1 << 16
    data_bytes: int = 1 << 17
    payload_bytes: int = 1 << 20
    waiting_bytes: int = 1 << 18
    event_s: float = 10.0
    idle_s: float = 120.0
    sound_pause_s: float = 10.0
    text_pause_s: float = 60.0
    request_s: float = 1800.0
    send_s: float = 10.0
    linger_s: float = 3.0
    wait_s: float = 10.0
    text_chars: int = 20_000
    heard_s: float = 900.0
    clients: int = 32
    per_address: int = 16


@dataclass(frozen=True)
class Received:
    """An event and the bytes that it came in."""

    event: "Event"
    size: int


async def read_event(reader: asyncio.StreamReader, bounds: Bounds) -> Received | None:
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


async def _rest(begun: bytes, reader: asyncio.StreamReader, bounds: Bounds) -> Received:
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
    more = _length(head, "data_length", bounds.data_bytes)
    if more:
        data |= _object(await reader.readexactly(more), "an event's data")
    sound = _length(head, "payload_length", bounds.payload_bytes)
    payload = await reader.readexactly(sound) if sound else None
    kind = head.get("type")
    if not isinstance(kind, str):
        raise ProtocolError("an event has no type: give it one, as a string.")
    return Received(Event(kind, _used(data), payload), len(line) + more + sound)


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


def _used(data: dict[str, Any]) -> dict[str, Any]:
    """What we use of an event's data, without what long lists and objects hold."""
    used = {key: _emptied(data[key]) for key in _USED if key in data}
    voice = data.get("voice")
    if isinstance(voice, dict):
        used["voice"] = {"name": _emptied(voice.get("name"))}
    return used


def _emptied(value: object) -> object:
    return [] if isinstance(value, list | dict) else value


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

    Raises: ConnectionError if the client has gone, or reads nothing for ``send_s``.
    """
    from wyoming.event import async_write_event

    try:
        await within(async_write_event(event, writer), bounds.send_s)
    except asyncio.TimeoutError:
        raise ConnectionAbortedError(
            f"it read nothing for {bounds.send_s:g} s"
        ) from None
