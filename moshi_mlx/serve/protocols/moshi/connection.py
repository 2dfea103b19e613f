"""A client comes, waits for its place, talks, and leaves, one way or another."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from ....errors import ImageError, MoshiError, ProtocolError
from ...service import Service
from ...tasks import within
from . import messages as protocol
from .ending import Ending
from .pictures import PICTURE, Early
from .settings import Settings, read_settings
from .talk import NetworkTalk

if TYPE_CHECKING:
    from fastapi import WebSocket

_log = logging.getLogger(__name__)
_GOODBYE_S = 2.0  # for the last words to a client that may be stuck
_EARLY = 4096  # bytes kept of what a client sends before it has a place
_GRACE_S = 1.0  # wait of a client that does not queue: somebody may just be leaving


async def serve_connection(service: Service, socket: "WebSocket") -> None:
    """Handle one WebSocket from its opening handshake to its end."""
    if service.batch is None:
        from fastapi import Response

        words = "This server has no Moshi: start it with --model MODEL.\n"
        await socket.send_denial_response(Response(words, 501))
        return
    await socket.accept()
    began_at = time.monotonic()
    ending = await _until_its_end(service, socket)
    service.metrics.connections.add(ending.how)
    _log.info(
        "connection client=%s ended=%s seconds=%.1f words=%r",
        socket.client.host if socket.client else "?",
        ending.how,
        time.monotonic() - began_at,
        ending.words[:200],
    )
    with contextlib.suppress(Exception):  # a client that has gone gets no goodbye
        await within(_say_goodbye(socket, ending), _GOODBYE_S)


async def _say_goodbye(socket: "WebSocket", ending: Ending) -> None:
    if ending.words:
        await socket.send_bytes(protocol.error(ending.words))
    await socket.close(ending.code)


async def _until_its_end(service: Service, socket: "WebSocket") -> Ending:
    from fastapi import WebSocketDisconnect

    try:
        settings = read_settings(socket.query_params)
        early = await _wait_for_place(service, socket, settings)
        try:
            await _talk(service, socket, settings, early)
        finally:
            service.lobby.leave()
    except Ending as ending:
        return ending
    except (ProtocolError, ImageError) as error:
        return Ending("misused", 1008, str(error))
    except WebSocketDisconnect:
        return Ending("closed", 1000)
    except Exception as error:  # its message may name files on the server
        expected = isinstance(error, MoshiError)
        _log.error("a conversation failed: %s", error, exc_info=not expected)
        return Ending("failed", 1011, "the server failed: see its log.")
    return Ending("closed", 1000)


async def _talk(
    service: Service, socket: "WebSocket", settings: Settings, early: Early
) -> None:
    talk = NetworkTalk(service, socket, settings)
    try:
        await talk.begin(early)
        await talk.run(early)
    finally:
        await talk.end()


async def _wait_for_place(
    service: Service, socket: "WebSocket", settings: Settings
) -> Early:
    """Take a place or raise the Ending; returns the client's first messages."""
    lobby = service.lobby
    if service.closing.is_set():
        raise Ending("refused", 1012, "the server is shutting down.")
    address = socket.client.host if socket.client else ""
    if lobby.full(address):
        raise _busy(lobby.places, "")

    async def tell(place: int) -> None:
        if settings.queue:
            await socket.send_bytes(protocol.metadata({"queue": {"place": place}}))

    early = Early()
    if not lobby.busy:
        await lobby.enter(tell)
        return early
    jobs = [_until_closing(service)]
    if settings.queue:
        listening = _until_gone(service, socket, settings, early)
        jobs += [listening, _keep_awake(service, socket)]
    patience = None if settings.queue else _GRACE_S
    try:
        await _unless(lobby.enter(tell, address, patience), jobs, lobby.leave)
    except asyncio.TimeoutError:
        raise _busy(lobby.places, " or wait in the queue (?queue=1)") from None
    return early


async def _unless(
    wanted: Awaitable[None], jobs: Sequence[Awaitable[None]], undo: Callable[[], None]
) -> None:
    """Wait for ``wanted``, unless a job ends before it: then raise that job's error.

    Args:
        undo: called if ``wanted`` came after all, but too late.
    """
    hoped = asyncio.ensure_future(wanted)
    others = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.wait([hoped, *others], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (hoped, *others):
            task.cancel()
        ends = await asyncio.gather(hoped, *others, return_exceptions=True)
    errors = [
        end
        for end in ends
        if isinstance(end, BaseException)
        and not isinstance(end, asyncio.CancelledError)
    ]
    if errors:
        if ends[0] is None:
            undo()
        raise errors[0]


def _busy(places: int, advice: str) -> Ending:
    words = f"busy: all {places} places are taken; try again later{advice}."
    return Ending("busy", 1013, words)


async def _until_gone(
    service: Service, socket: "WebSocket", settings: Settings, early: Early
) -> None:
    """A waiting client is not heard. Its messages are dropped, except the first ones,
    which contain the header of an Ogg stream, and a picture, made small."""
    while True:
        event = await socket.receive()
        if event["type"] == "websocket.disconnect":
            raise Ending("closed", 1000)
        data = event.get("bytes") or b""
        if data[:1] == PICTURE and settings.look.promised and service.eyes.open:
            if early.pixels is None:
                early.pixels = await service.eyes.read(data[1:], settings.look)
        elif data and sum(len(kept) for kept in early.messages) + len(data) <= _EARLY:
            early.messages.append(data)


async def _keep_awake(service: Service, socket: "WebSocket") -> None:
    """Kyutai's page gives up after ten silent seconds."""
    while True:
        await asyncio.sleep(service.limits.ping_s)
        await socket.send_bytes(protocol.PING)


async def _until_closing(service: Service) -> None:
    await service.closing.wait()
    raise Ending("closed", 1012, "the server is shutting down.")
