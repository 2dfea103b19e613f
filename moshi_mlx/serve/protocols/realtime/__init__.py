"""OpenAI's Realtime API: live transcription, talking with Moshi, and translation.

Source: the types of the `openai` package, 3.57.0.
"""

from ..base import Protocol, Route
from .connection import serve_realtime
from .secrets import client_secret
from .translations import serve_translation

PROTOCOL = Protocol(
    sockets={
        "/v1/realtime": serve_realtime,
        "/v1/realtime/translations": serve_translation,
    },
    routes=[Route("POST", "/v1/realtime/client_secrets", client_secret)],
)
