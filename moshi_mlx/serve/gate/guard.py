"""The guard: refuses clients that may not connect, and adds security headers."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from .connection import Connection
from .gate import Gate
from .refusal import Manners, Refused
from .security import COOKIE, Policy, is_local

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = ("/health",)  # paths that need no token
# A proxy on this machine adds one of these: its clients may be anywhere.
_FORWARDED = {b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via"}
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",  # the address may contain the token
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "cache-control": "no-cache",
}


class Guard:
    """ASGI middleware: refuses clients by ``Policy``, and adds security headers.

    The application finds its connection in ``scope["gate"]``, if there is a gate, and
    gets an error from ``receive`` if too much comes on it.

    Args:
        manners: of the protocols; other paths are refused in plain text.
    """

    def __init__(
        self,
        app: App,
        policy: Policy,
        gate: Gate | None = None,
        manners: Sequence[Manners] = (),
    ):
        self.app, self.policy, self.gate = app, policy, gate
        self.manners = manners

    def _manners(self, path: str) -> Manners:
        return next((m for m in self.manners if m.covers(path)), Manners())

    def _is_open(self, scope: Scope) -> bool:
        """Whether a request needs no token, by its path and its client."""
        if scope["path"] in OPEN_PATHS:
            return True
        asked = scope.get("method", "GET").replace("HEAD", "GET"), scope["path"]
        if asked not in self._manners(scope["path"]).open:
            return False
        client, names = scope.get("client"), {name for name, _ in scope["headers"]}
        return client is not None and is_local(client[0]) and not names & _FORWARDED

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        listed = [
            (k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"]
        ]
        headers = dict(listed)
        hosts = [value for name, value in listed if name == "host"]
        host = hosts[0] if len(hosts) == 1 else ""
        if not self.policy.host_allowed(host):
            words = "This is not a name of this server."
            await self._refuse(scope, receive, send, 403, words)
            return
        if not self.policy.origin_allowed(headers.get("origin"), host):
            words = "Pages of other sites may not connect (see --allow-origin)."
            await self._refuse(scope, receive, send, 403, words)
            return
        shown = self.policy.token_given(scope["query_string"].decode(), headers)
        if shown is None and not self._is_open(scope):
            words = "This server needs its token: open the address that it printed."
            await self._refuse(scope, receive, send, 401, words)
            return
        connection = None if self.gate is None else self.gate.of(scope.get("client"))
        if connection is not None:
            scope["gate"] = connection
            receive = _until_flood(receive, connection)
        remember = shown in ("query", "header") and scope["type"] == "http"
        await self.app(scope, receive, self._with_headers(send, scope, host, remember))

    async def _refuse(
        self, scope: Scope, receive: Receive, send: Send, status: int, words: str
    ) -> None:
        """Answer with an error; a WebSocket is refused before its handshake."""
        prefix = ""
        if scope["type"] == "websocket":
            await receive()
            if "websocket.http.response" not in scope.get("extensions", {}):
                await send({"type": "websocket.close", "code": 1008})
                return
            prefix = "websocket."
        media_type, body = self._manners(scope["path"]).shape(Refused(status, words))
        headers = [(b"connection", b"close")]
        if media_type:
            headers.append((b"content-type", media_type.encode()))
        if status == 401:
            headers.append(
                (b"www-authenticate", b'Basic realm="Moshi", charset="UTF-8"')
            )
        headers += [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
        start = {"type": f"{prefix}http.response.start", "status": status}
        await send({**start, "headers": headers})
        await send({"type": f"{prefix}http.response.body", "body": body})

    def _with_headers(
        self, send: Send, scope: Scope, host: str, remember: bool
    ) -> Send:
        extra = {
            **_HEADERS,
            "content-security-policy": self.policy.content_policy.format(host=host),
        }
        if remember:
            secure = "; Secure" if scope.get("scheme") == "https" else ""
            extra["set-cookie"] = (
                f"{COOKIE}={self.policy.cookie}; Path=/; HttpOnly; SameSite=Strict"
                f"{secure}"
            )

        connection = scope.get("gate")

        async def sending(message: Message) -> None:
            if connection is not None and connection.leaving:
                raise ConnectionResetError("the connection is being closed")
            if message["type"] == "http.response.start":
                # One request per connection, so that the gate sees the head of each.
                extra["connection"] = "close"
                known = {name.lower() for name, _ in message.get("headers", [])}
                message["headers"] = [
                    *message.get("headers", []),
                    *(
                        (name.encode(), value.encode())
                        for name, value in extra.items()
                        if name.encode() not in known
                    ),
                ]
            await send(message)

        return sending


def _until_flood(receive: Receive, connection: Connection) -> Receive:
    """The same, ended by a ProtocolError when the gate closes for this client."""

    async def receiving() -> Message:
        coming = asyncio.ensure_future(receive())
        try:
            await asyncio.wait(
                {coming, connection.flood}, return_when=asyncio.FIRST_COMPLETED
            )
            if connection.flood.done() and not connection.flood.cancelled():
                connection.flood.result()  # raises its error
            return await coming
        finally:
            coming.cancel()

    return receiving
