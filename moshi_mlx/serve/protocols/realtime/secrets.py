"""Keys for browsers: the one that the request came with."""

import time
from typing import TYPE_CHECKING

from ...service import Service
from .session import RealtimeSession

if TYPE_CHECKING:
    from fastapi import Request, Response

_LIVES_S = 600


async def client_secret(service: Service, request: "Request") -> "Response":
    """What a browser is to connect with. This server has one key for everything, so
    the key that was shown is given back."""
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
