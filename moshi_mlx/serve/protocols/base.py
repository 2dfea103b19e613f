"""The parts of a protocol: websockets, HTTP routes, and how it refuses."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..gate.refusal import Manners
from ..service import Service

if TYPE_CHECKING:
    from fastapi import Request, Response, WebSocket

ServeSocket = Callable[[Service, "WebSocket"], Awaitable[None]]
Answer = Callable[[Service, "Request"], Awaitable["Response"]]


@dataclass(frozen=True)
class Route:
    """An HTTP route.

    Attributes:
        method: "GET", "POST", "DELETE" ...
        path: in Starlette's form: ``/v1/models/{id:path}``.
        answer: ``async def answer(service, request)`` returns a Response. It may raise
            ``Refused``, and any MoshiError, which becomes one (``Refused.of``).
    """

    method: str
    path: str
    answer: Answer


@dataclass(frozen=True)
class Protocol:
    """A protocol of the server.

    Attributes:
        sockets: ``async def serve(service, socket)`` by path: it handles a WebSocket
            from before the opening handshake to its end.
        routes: its HTTP routes.
        manners: see ``Manners``.
        patient: a client that sends faster than allowed is slowed down instead of
            refused, and may take its time to read.
    """

    sockets: Mapping[str, ServeSocket] = field(default_factory=dict)
    routes: Sequence[Route] = ()
    manners: Manners = field(default_factory=Manners)
    patient: bool = True
