"""Who may reach the server: Host, Origin and token are checked before anything else.

A page of another site that is open in the same browser must not be able to use a Moshi
on this machine, not even by making its own name point here (DNS rebinding). So the Host
must be a name of this machine or an IP address, which no name server can forge. The
Origin, which browsers always send with a WebSocket, must be the server's own. Programs
send no Origin and are let in.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from ...errors import ConfigError

COOKIE = "moshi_token"
MIN_TOKEN = 8  # characters
KEY_HEADERS = ("kyutai-api-key", "x-api-key")
KEY_PROTOCOL = "openai-insecure-api-key."  # for browsers, which cannot send headers
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


def is_local(host: str) -> bool:
    """Whether a server bound to ``host`` is reachable from this machine only."""
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
        host: the address that the server is bound to; its name is accepted as Host.
        token: needed for everything, None for none.
        origins: other pages that may connect, as ``https://example.org``; their names
            are accepted as Host too (a proxy or tunnel passes it on).
        content_policy: of the page, with ``{host}`` for the Host.

    Raises: ConfigError for an invalid origin, or a token that is too short.
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
        """None means a program, not a page."""
        if origin is None:
            return True
        origin = origin.lower()
        if origin in self.origins:
            return True
        return origin in (f"http://{host.lower()}", f"https://{host.lower()}")

    def token_given(self, query: str, headers: dict[str, str]) -> str | None:
        """Where the token was (query, header, cookie, or as a program's key); None if
        it was missing."""
        if self.token is None:
            return "none needed"
        asked = parse_qs(query)
        for name in ("token", "worker_auth_id"):
            if any(self._is_token(value) for value in asked.get(name, ())):
                return "query"
        if any(self._is_token(key) for key in _keys(asked, headers)):
            return "key"
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


def _keys(asked: dict[str, list[str]], headers: dict[str, str]) -> list[str]:
    """Possible keys, from the places where programs put them."""
    offered = headers.get("sec-websocket-protocol", "").split(",")
    offers = [offer.strip() for offer in offered]
    return [
        *asked.get("auth_id", ()),
        *(headers.get(name, "") for name in KEY_HEADERS),
        *(o.removeprefix(KEY_PROTOCOL) for o in offers if o.startswith(KEY_PROTOCOL)),
    ]


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
