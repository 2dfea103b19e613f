"""The protocols that the server speaks, a module or a package for each.

A protocol is ``async def serve(service, socket)``: it has a WebSocket from before the
opening handshake to its end. Adding one is adding its file and its line here; the gate,
the transport and the model's thread stay as they are.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ..service import Service
from .moshi.connection import serve_connection

if TYPE_CHECKING:
    from fastapi import WebSocket

Protocol = Callable[[Service, "WebSocket"], Awaitable[None]]
PROTOCOLS: dict[str, Protocol] = {"/api/chat": serve_connection}  # by path
