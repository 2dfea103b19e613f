"""The common part of moshi-server's websockets: parallel jobs, until one ends."""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from ....errors import MoshiError, NoPlace
from ...replies import has_gone, until_gone
from ...service import Service
from ...tasks import cancel_all, within
from .messages import message

if TYPE_CHECKING:
    from fastapi import WebSocket

_log = logging.getLogger(__name__)
NO_PLACE = "no free channels"  # as moshi-server says it


class Ended(Exception):
    """The connection is over, without an error."""


async def receive(socket: "WebSocket", patience_s: float) -> bytes | str:
    """The next message. Raises: Ended when there is none."""
    try:
        event = await within(socket.receive(), patience_s)
    except asyncio.TimeoutError:
        raise Ended from None
    if event["type"] == "websocket.disconnect":
        raise Ended
    data = event.get("bytes")
    return event.get("text") or "" if data is None else data


async def together(
    service: Service, socket: "WebSocket", *jobs: Coroutine[Any, Any, None]
) -> None:
    """Run jobs until the first ends or fails, the client goes, or the server closes.

    Raises: a job's error, except ``Ended``.
    """

    async def close() -> None:
        await service.closing.wait()

    leaving = until_gone(socket.scope)
    tasks = [asyncio.ensure_future(job) for job in (*jobs, leaving, close())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            with contextlib.suppress(Ended):
                task.result()
    finally:
        await cancel_all(*tasks)


async def say_goodbye(
    socket: "WebSocket", error: Exception | None, packed: bool
) -> None:
    """Say why the connection ends, if that is still possible, and close it."""
    with contextlib.suppress(Exception):  # a client that has gone gets no goodbye
        if error is not None and packed:
            words = str(error) if isinstance(error, MoshiError) else "the server failed"
            if isinstance(error, NoPlace):
                words = NO_PLACE
            await socket.send_bytes(message("Error", message=words))
        await socket.close(1000 if error is None else 1011)


def note(error: Exception) -> None:
    """Log an error of a connection; a client's own errors in one line."""
    expected = isinstance(error, MoshiError) or has_gone(error)
    level = logging.INFO if expected else logging.ERROR
    _log.log(level, "a connection ended: %s", error, exc_info=not expected)
