"""Requests on a Gradium socket: several may overlap, each with an id."""

import asyncio
import contextlib
import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ....errors import MoshiError, ProtocolError
from ...replies import has_gone, read_within, until_gone
from ...service import Service
from ...tasks import cancel_all, within
from .messages import Fields, read_message, string

if TYPE_CHECKING:
    from fastapi import WebSocket

_log = logging.getLogger(__name__)
MOST_AT_ONCE = 8  # requests of a socket
IDLE_S = 60.0  # without a request a socket is closed
MOST_WAITING = 64  # messages that a request may leave waiting; then no more are read
MISUSED, FAILED, RESTARTING = 1008, 1011, 1012  # codes of a close


class SpeechRequest:
    """A client's request, between ``setup`` and ``end_of_stream``.

    Attributes:
        id: the client's name for it; None if the socket carries a single one.
        setup: the client's first message.
        closes: whether the socket closes after it.
        told: the client's messages, in order.
    """

    def __init__(self, service: Service, socket: "WebSocket", setup: Fields):
        self.service, self.setup = service, setup
        self.id = string(setup, "client_req_id")
        self.request_id = uuid.uuid4().hex
        self.closes = setup.get("close_ws_on_eos") is not False
        self.told: asyncio.Queue[Fields] = asyncio.Queue(MOST_WAITING)
        self._socket = socket

    async def send(self, fields: dict[str, Any]) -> None:
        """Send the client something about this request."""
        if self.id is not None:
            fields["client_req_id"] = self.id
        text = json.dumps(fields, ensure_ascii=False)
        await read_within(self._socket.send_text(text), self.service.limits.read_s)


Handle = Callable[[SpeechRequest], Awaitable[None]]


class RequestSocket:
    """Starts requests, passes on their messages, and ends them with the socket.

    Args:
        handle: handles a request.
    """

    def __init__(self, service: Service, socket: "WebSocket", handle: Handle):
        self._service, self._socket, self._handle = service, socket, handle
        self._running: dict[str | None, tuple[SpeechRequest, asyncio.Task[None]]] = {}
        self._over: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def serve(self) -> None:
        """Serve the socket until its end."""
        await self._socket.accept()
        read = asyncio.ensure_future(self._read())
        closing = asyncio.ensure_future(self._service.closing.wait())
        leaving = asyncio.ensure_future(until_gone(self._socket.scope))
        jobs: set[asyncio.Future[Any]] = {read, closing, leaving, self._over}
        try:
            await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            code = self._over.result() if self._over.done() else 1000
            if closing.done():
                code = RESTARTING
            if read.done() and (error := read.exception()) is not None:
                code = await self._tell(self._alone(), error)
        finally:
            running = [task for _, task in self._running.values()]
            await cancel_all(read, closing, leaving, *running)
        with contextlib.suppress(Exception):  # a client that has gone gets no goodbye
            await within(self._socket.close(code), 2.0)

    def _alone(self) -> SpeechRequest:
        """The request that errors of the socket itself name."""
        return SpeechRequest(self._service, self._socket, {})

    async def _read(self) -> None:
        while True:
            try:
                event = await self._received()
            except asyncio.TimeoutError:
                if self._running:
                    continue  # those have limits of their own
                raise ProtocolError(f"no request came for {IDLE_S:g} s.") from None
            if event["type"] == "websocket.disconnect":
                return
            data = event.get("bytes")
            await self._take(read_message(event.get("text") or data or b""))

    async def _received(self) -> Any:
        return await within(self._socket.receive(), IDLE_S)

    async def _take(self, fields: Fields) -> None:
        id = string(fields, "client_req_id")
        if fields["type"] == "setup":
            self._begin(SpeechRequest(self._service, self._socket, fields))
        elif id in self._running:
            await self._running[id][0].told.put(fields)
        elif not self._running:
            raise ProtocolError("send setup before anything else.")
        # A message for a request that has ended is late, not an error.

    def _begin(self, request: SpeechRequest) -> None:
        if request.id in self._running:
            raise ProtocolError("a request of this client_req_id has not ended yet.")
        if len(self._running) >= MOST_AT_ONCE:
            raise ProtocolError(f"a socket carries {MOST_AT_ONCE} requests at most.")
        task = asyncio.ensure_future(self._run(request))
        self._running[request.id] = request, task

    async def _run(self, request: SpeechRequest) -> None:
        code = 1000
        try:
            await self._handle(request)
            await request.send({"type": "end_of_stream"})
        except Exception as error:
            code = await self._tell(request, error)
        finally:
            self._running.pop(request.id, None)
            while not request.told.empty():  # the reader may wait for room in it
                request.told.get_nowait()
        if request.closes and not self._over.done():
            self._over.set_result(code)

    async def _tell(self, request: SpeechRequest, error: BaseException) -> int:
        """Report an error; returns the code of the close that follows."""
        expected = isinstance(error, MoshiError)
        quiet = expected or has_gone(error)
        level = logging.INFO if quiet else logging.ERROR
        _log.log(level, "a request failed: %s", error, exc_info=not quiet and error)
        code = MISUSED if expected else FAILED
        words = str(error) if expected else "the server failed: see its log."
        with contextlib.suppress(Exception):
            await request.send({"type": "error", "message": words, "code": code})
        return code


async def both(*jobs: Awaitable[None]) -> None:
    """Run jobs until all have ended or one fails; raises its error."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        await cancel_all(*tasks)
