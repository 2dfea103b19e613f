"""The head of a request: limited, and parsed before any server reads it."""

import re
from dataclasses import dataclass

MAX_HEAD = 16_384  # bytes of request line and headers
MAX_LINE = 8000  # bytes of one line; above 8192 the WebSocket library does not answer
MAX_HEADERS = 100  # nor above 128
_END = re.compile(rb"\r?\n\r?\n")
_LINE = re.compile(rb"\r?\n")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REQUEST = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]+) HTTP/1\.([01])")


class BadRequest(Exception):
    """A refused head, with the status and the sentence of the answer."""

    def __init__(self, words: str, status: int = 400):
        super().__init__(words)
        self.words, self.status = words, status


@dataclass(frozen=True)
class Head:
    """The parts of a request that the gate needs.

    Attributes:
        size: bytes, including the empty line.
        upgrade: whether it asks for a WebSocket.
        length: bytes of the body; None if it comes in chunks.
        forwarded: the client addresses that proxies name, nearest last.
    """

    size: int
    upgrade: bool
    length: int | None
    forwarded: list[str]


def read_head(data: bytes | bytearray) -> Head | None:
    """The head at the start of ``data``; None if it is not complete yet.

    Raises: BadRequest for a head that is too long, damaged, or asks for a WebSocket
        with a body.
    """
    end = _END.search(data, 0, MAX_HEAD)
    if end is None:
        if len(data) >= MAX_HEAD:
            raise BadRequest(f"the head of a request has at most {MAX_HEAD} bytes.")
        if _LINE.search(data) is None and len(data) > MAX_LINE:
            raise BadRequest(f"a line has at most {MAX_LINE} bytes.")
        return None
    first, *lines = _LINE.split(bytes(data[: end.start()]))
    if max(map(len, (first, *lines))) > MAX_LINE:
        raise BadRequest(f"a line has at most {MAX_LINE} bytes.")
    if len(lines) > MAX_HEADERS:
        raise BadRequest(f"a request has at most {MAX_HEADERS} headers.")
    request = _REQUEST.fullmatch(first)
    if request is None:
        raise BadRequest("this is no HTTP request.")
    headers = _headers(lines)
    length = _body_length(headers)
    upgrade = b"websocket" in _words(headers, b"upgrade")
    if upgrade and (request[1] != b"GET" or request[3] != b"1"):
        raise BadRequest("a WebSocket is asked for with GET and HTTP/1.1.")
    if upgrade and length != 0:
        raise BadRequest("a request for a WebSocket has no body.")
    forwarded = [a.decode() for a in _words(headers, b"x-forwarded-for")]
    return Head(end.end(), upgrade, length, forwarded)


def _headers(lines: list[bytes]) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or _TOKEN.fullmatch(name) is None or b"\0" in value:
            raise BadRequest("a header is damaged.")
        found.setdefault(name.lower(), []).append(value.strip())
    return found


def _body_length(headers: dict[bytes, list[bytes]]) -> int | None:
    lengths, codings = (
        headers.get(b"content-length", []),
        _words(headers, b"transfer-encoding"),
    )
    if codings:
        if codings != [b"chunked"] or lengths:
            raise BadRequest("a body comes in chunks, or with its length.")
        return None
    if len(lengths) > 1 or any(not length.isdigit() for length in lengths):
        raise BadRequest("the content-length is damaged.")
    return int(lengths[0][:18]) if lengths else 0


def _words(headers: dict[bytes, list[bytes]], name: bytes) -> list[bytes]:
    """The comma-separated words of a header in lower case, except non-ASCII ones."""
    joined = b",".join(headers.get(name, []))
    words = (word.strip().lower() for word in joined.split(b","))
    return [word for word in words if word and word.isascii()]
