"""Who may reach the server: Host, Origin and token are checked before anything else.

A page of another site that is open in the same browser must not be able to use a Moshi
that runs on this machine, not even by making its own name point here (DNS rebinding).
So the Host must be a name of this machine or an IP address, which no name server can
forge, and the Origin, which browsers always send with a WebSocket, must be the server's
own. Programs send no Origin and are let in.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ...errors import ConfigError
from .connection import Connection
from .gate import Gate

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
ErrorBody = Callable[[int, str], dict[str, Any]]  # of a status and a sentence

COOKIE = "moshi_token"
MIN_TOKEN = 8  # characters
OPEN_PATHS = ("/health",)  # need no token
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")

OWN_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self' ws://{host} wss://{host}; media-src 'self' blob:; "
    "worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Somebody else's page (--static) may need inline styles, WebAssembly, blobs.
OTHER_PAGE_POLICY = (
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",  # the address may hold the token
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "cache-control": "no-cache",
}


def is_local(host: str) -> bool:
    """Whether a server bound to ``host`` is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def new_token() -> str:
    return secrets.token_urlsafe(18)


class Policy:
    """What is let in.

    Args:
        host: what the server is bound to; its name is accepted as Host.
        token: needed for everything, None for none.
        origins: further pages that may connect, as ``https://example.org``; their
            names are accepted as Host too (a proxy or tunnel passes it on).
        content_policy: of the page, with ``{host}`` for the Host.

    Raises: ConfigError for an origin that is none, or a token that is too short.
    """

    def __init__(
        self,
        host: str = "localhost",
        token: str | None = None,
        origins: Iterable[str] = (),
        content_policy: str = OWN_PAGE_POLICY,
    ):
        if token is not None and len(token) < MIN_TOKEN:
            raise ConfigError(
                f"the token has {len(token)} characters: use {MIN_TOKEN} or more, or "
                "leave it out and one is made."
            )
        self.token = token
        self.content_policy = content_policy
        self.origins = {_origin(origin) for origin in origins}
        self.names = {*_LOCAL_NAMES, host.strip("[]").lower()}
        self.names |= {str(urlsplit(o).hostname) for o in self.origins}
        if not is_local(host):
            own = socket.gethostname().lower()
            self.names |= {own, own.split(".")[0], own.split(".")[0] + ".local"}

    @property
    def cookie(self) -> str:
        """What a browser keeps instead of the token."""
        key = (self.token or "").encode()
        return hmac.new(key, b"moshi_mlx cookie", hashlib.sha256).hexdigest()

    def host_allowed(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match[1].strip("[]").lower().rstrip(".")
        if name in self.names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def origin_allowed(self, origin: str | None, host: str) -> bool:
        """None is a program, not a page."""
        if origin is None:
            return True
        origin = origin.lower()
        if origin in self.origins:
            return True
        return origin in (f"http://{host.lower()}", f"https://{host.lower()}")

    def token_given(self, query: str, headers: dict[str, str]) -> str | None:
        """How the token was shown (query, header, cookie); None if it was not."""
        if self.token is None:
            return "none needed"
        asked = parse_qs(query)
        for name in ("token", "worker_auth_id"):
            if any(self._is_token(value) for value in asked.get(name, ())):
                return "query"
        if self._is_token(_authorization(headers.get("authorization", ""))):
            return "header"
        try:
            kept = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return None
        if kept and hmac.compare_digest(kept.value.encode(), self.cookie.encode()):
            return "cookie"
        return None

    def _is_token(self, value: str) -> bool:
        return hmac.compare_digest(value.encode(), (self.token or "").encode())


def _origin(text: str) -> str:
    parts = urlsplit(text.lower().rstrip("/"))
    known = parts.scheme in ("http", "https")
    if not known or not parts.netloc or parts.path or parts.query:
        raise ConfigError(
            f"--allow-origin {text!r} is not an origin: write it like "
            "https://example.org, "
            "with a port if it has one."
        )
    return f"{parts.scheme}://{parts.netloc}"


def _authorization(header: str) -> str:
    """The password of Basic, or the token of Bearer; empty if there is neither."""
    kind, _, value = header.partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() != "basic":
        return ""
    try:
        pair = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return pair.partition(":")[2]


class Guard:
    """ASGI middleware: refuses by ``Policy``, adds the security headers to the rest.

    What is behind finds its connection in ``scope["gate"]``, where there is a gate, and
    is told by an error of ``receive`` when too much comes on it.

    Args:
        errors: makes the JSON that clients of a path, and of those below it, read as
            an error; plain text elsewhere.
    """

    def __init__(
        self,
        app: App,
        policy: Policy,
        gate: Gate | None = None,
        errors: Mapping[str, ErrorBody] | None = None,
    ):
        self.app, self.policy, self.gate = app, policy, gate
        self.errors = errors or {}

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
        if shown is None and scope["path"] not in OPEN_PATHS:
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
        """Answer with an error page; a WebSocket is refused before it is one."""
        prefix = ""
        if scope["type"] == "websocket":
            await receive()
            if "websocket.http.response" not in scope.get("extensions", {}):
                await send({"type": "websocket.close", "code": 1008})
                return
            prefix = "websocket."
        media, body = "text/plain; charset=utf-8", f"{words}\n".encode()
        for below, error_body in self.errors.items():
            if f"{scope['path']}/".startswith(f"{below}/"):
                media = "application/json"
                body = json.dumps(error_body(status, words)).encode()
        headers = [(b"content-type", media.encode()), (b"connection", b"close")]
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
                raise OSError("the connection is being closed")  # as if it had gone
            if message["type"] == "http.response.start":
                # One request a connection: the gate sees the head of each.
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
                connection.flood.result()  # raises what it was
            return await coming
        finally:
            coming.cancel()

    return receiving
