"""Errors in the form that OpenAI's clients read: a JSON object, and a status."""

import json
import logging
from typing import Any

from ....errors import MissingExtra, MoshiError, NoPlace, NotServed
from ...gate.refusal import RETRY, Refused
from ...replies import has_gone

_log = logging.getLogger(__name__)
_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
_KINDS |= {429: "rate_limit_error", 500: "server_error", 503: "server_error"}


def shape(refused: Refused) -> tuple[str, bytes]:
    """Media type and body of an error."""
    return "application/json", json.dumps(_body(refused)).encode()


def _body(refused: Refused) -> dict[str, Any]:
    kind = _KINDS.get(refused.status, "invalid_request_error")
    words, param, code = refused.words, refused.param, refused.code
    return {"error": {"message": words, "type": kind, "param": param, "code": code}}


def refused(error: Exception, hidden: str = "") -> Refused:
    """Any error as a refusal.

    Args:
        hidden: a path of ours that clients need not know.
    """
    if isinstance(error, Refused):
        return error
    if isinstance(error, NoPlace):
        return Refused(429, str(error), code="rate_limit_exceeded", headers=RETRY)
    if isinstance(error, NotServed):
        return Refused(404, str(error), "model", "model_not_found")
    if isinstance(error, MoshiError):
        words = str(error)
        if hidden:
            words = words.replace(hidden, "the file")
        code = "missing_extra" if isinstance(error, MissingExtra) else None
        return Refused(400, words, code=code)
    if has_gone(error):
        return Refused(499, "the client has gone.")
    _log.error("a request failed", exc_info=error)
    return Refused(500, "the server failed: its log says why.")


def error_event(error: Exception, hidden: str = "") -> bytes:
    """An error in the middle of a stream of events."""
    return event({"type": "error", **_body(refused(error, hidden))})


def event(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"
