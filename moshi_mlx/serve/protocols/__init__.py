"""The protocols of the server, a module or a package for each.

To add one, add its file and its line here; the gate, the transport and the model's
thread stay as they are. See ``base.Protocol``.
"""

from . import gradium, moshi_server, openai, realtime
from .base import Protocol
from .moshi.connection import serve_connection

PROTOCOLS: dict[str, Protocol] = {
    "moshi": Protocol({"/api/chat": serve_connection}, patient=False),
    "moshi-server": moshi_server.PROTOCOL,
    "gradium": gradium.PROTOCOL,
    "realtime": realtime.PROTOCOL,
    "openai": openai.PROTOCOL,  # last: it answers everything below /v1
}
