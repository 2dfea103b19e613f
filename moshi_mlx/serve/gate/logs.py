"""Log lines that a client can cause: limited in number and length, without secrets."""

import asyncio
import logging
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from .limits import Allowance

_BURST, _PER_S = 20, 0.2  # for lines of one kind
_TRACES, _TRACES_PER_S = 3, 1 / 60  # for lines with a traceback
_MAX_LINE = 1000  # characters of a message
_MAX_TRACE = 4000  # of a traceback
_MAX_KINDS = 500
_CLIENTS_FAULTS = (
    "ASGI callable returned without completing handshake",  # a WebSocket was refused
    "Invalid HTTP request received",
    "Invalid UTF-8 sequence received from client",
    "Unsupported upgrade request",
)
_SECRET = re.compile(
    r"((?:token|auth_id|api_key|authorization|cookie|secret)[\"']?\s*[=:]\s*"
    r"(?:b?[\"'])?(?:basic |bearer )?)[^\s&\"',;]+",
    re.IGNORECASE,
)


def without_secrets(text: str) -> str:
    """The text without anything that looks like a token in an address or a header."""
    return _SECRET.sub(r"\1...", text)


@dataclass
class _Kind:
    """Lines alike.

    Attributes:
        allowance: of those that may be written.
        left_out: since the last one that was.
    """

    allowance: Allowance
    left_out: int = 0


class Bounded(logging.Filter):
    """Passes some lines of each kind, and says how many it left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        super().__init__()
        self._clock = clock
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.name, str(record.msg)[:200]
        if kind not in self._kinds:
            if len(self._kinds) >= _MAX_KINDS:
                self._kinds.clear()
            most = (_TRACES_PER_S, _TRACES) if record.exc_info else (_PER_S, _BURST)
            self._kinds[kind] = _Kind(Allowance(*most, "lines", self._clock))
        lines = self._kinds[kind]
        if lines.allowance.left < 1:
            lines.left_out += 1
            return False
        lines.allowance.take(1)
        if lines.left_out:
            record.msg = f"{record.msg} ({lines.left_out} more like it were left out)"
            lines.left_out = 0
        return True


class OneLine(logging.Formatter):
    """Time, level, name and message; a traceback follows if there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = _printable(record.message)[:_MAX_LINE]
        return without_secrets(super().formatMessage(record))

    def formatException(self, ei: object) -> str:
        return without_secrets(super().formatException(ei)[-_MAX_TRACE:])  # type: ignore[arg-type]


def is_news(record: logging.LogRecord) -> bool:
    """Whether a line is worth writing.

    It is not if a port cannot be used, which run_server reports in words, nor if
    uvicorn takes a client's mistake for an error of the server, or an answer that the
    server's end cut off.
    """
    clients_fault = str(record.msg).startswith(_CLIENTS_FAULTS)
    error = record.exc_info[1] if record.exc_info else record.msg
    # a client hung up, or the server ended: not a failure
    gone = isinstance(error, ConnectionError | asyncio.CancelledError)
    return not (clients_fault or gone or isinstance(record.msg, OSError))


def _printable(text: str) -> str:
    """Control characters escaped, so that no client writes its own lines to the log."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def log_lines(verbose: bool) -> None:
    """Send the logs of the server and its libraries to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    handler.addFilter(Bounded())
    handler.addFilter(is_news)
    level = logging.INFO if verbose else logging.WARNING
    # The libraries log every connection; our own line says the same.
    levels = {"moshi_mlx": level, "uvicorn.error": logging.WARNING}
    for name in (*levels, "asyncio", "websockets"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(levels.get(name, logging.WARNING))
