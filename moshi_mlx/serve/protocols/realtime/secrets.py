"""Keys for browsers: they get the key of the request."""

import time
from typing import TYPE_CHECKING

from ...service import Service
from .session import RealtimeSession

if TYPE_CHECKING:
    from fastapi import Request, Response

_LIVES_S = 600


async def client_secret(service: Service, request: "Request") -> "Response":
    """A key for a browser to connect with. This server has one key for everything, so
    it returns the request's own key."""
    from fastapi.responses import JSONResponse

    shown = request.headers.get("authorization", "").partition(" ")[2]
    session = RealtimeSession.of(service, {})
    return JSONResponse(
        {
            "value": shown or "none",
            "expires_at": int(time.time()) + _LIVES_S,
            "session": session.shown,
        }
    )
