"""Answers that take time: sent while they are made; dropped if the client leaves."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ProtocolError
from .gate.refusal import Refused
from .tasks import cancel_all, within

if TYPE_CHECKING:
    from fastapi import Request

T = TypeVar("T")


def has_gone(error: BaseException) -> bool:
    """Whether an error only means that the client has left."""
    from starlette.requests import ClientDisconnect
    from starlette.websockets import WebSocketDisconnect

    return isinstance(error, ConnectionError | ClientDisconnect | WebSocketDisconnect)


async def until_gone(scope: Mapping[str, Any]) -> None:
    """Wait until the client's connection is lost, whatever of it is still unread.

    Args:
        scope: ASGI's, of the request or socket.
    """
    connection = scope.get("gate")
    await (asyncio.Event() if connection is None else connection.gone).wait()


async def read_within(sending: Awaitable[None], seconds: float) -> None:
    """Wait until a message is sent.

    Raises: ProtocolError if the client reads nothing for that long.
    """
    try:
        await within(sending, seconds)
    except asyncio.TimeoutError:
        raise ProtocolError(f"the client read nothing for {seconds:g} s.") from None


async def begun(
    request: "Request", pieces: AsyncGenerator[bytes, None]
) -> AsyncIterator[bytes]:
    """The same pieces, but the first one is made now, unless the client hangs up.

    Errors before that can still be sent as a status. And whatever ``pieces`` holds is
    freed even if nobody asks for a piece: only a generator that has started is closed
    when it is deleted.

    The request's body must have been read. Raises: like ``unless_gone``.
    """

    async def begin() -> bytes:
        return await anext(pieces)

    first = await unless_gone(request, begin())

    async def everything() -> AsyncIterator[bytes]:
        try:
            yield first
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()

    return everything()


async def unless_gone(request: "Request", work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled when the client hangs up.

    The request's body must have been read. Raises: Refused after that, which nobody
    reads.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            leaving.result()  # raises if the client sends something that it should not
            raise Refused(499, "the client has gone.")
        return working.result()
    finally:
        await cancel_all(working, leaving)


async def _left(request: "Request") -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
