"""Errors as OpenAI's clients read them: a JSON object, and a status that says more."""

import json
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ....errors import MissingExtra, MoshiError

if TYPE_CHECKING:
    from fastapi import Request, Response

_log = logging.getLogger(__name__)
RETRY_S = 1
_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
_KINDS |= {429: "rate_limit_error", 500: "server_error", 503: "server_error"}


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        message: for a person.
        param: the field that is wrong.
        code: for programs.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str = ""
    ):
        super().__init__(message)
        self.status, self.message, self.param = status, message, param
        self.code = code or None


def error_body(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """The JSON of an error."""
    kind = _KINDS.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refused(error: Exception, hidden: str = "") -> Refusal:
    """Any error as a refusal.

    Args:
        hidden: a path of ours that clients need not know.
    """
    if isinstance(error, Refusal):
        return error
    if isinstance(error, MoshiError):
        words = str(error)
        if hidden:
            words = words.replace(hidden, "the file")
        code = "missing_extra" if isinstance(error, MissingExtra) else ""
        return Refusal(400, words, code=code)
    _log.error("a request failed", exc_info=error)
    return Refusal(500, "the server failed: its log says why.")


def error_event(error: Exception, hidden: str = "") -> bytes:
    """An error in the middle of a stream of events."""
    told = refused(error, hidden)
    body = error_body(told.status, told.message, told.param, told.code)
    return event({"type": "error", **body})


def event(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


Handler = Callable[["Request"], Awaitable["Response"]]


def answering(handler: Handler) -> Handler:
    """``handler``, with every error in OpenAI's shape."""
    from fastapi import Request, Response
    from fastapi.responses import JSONResponse

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Exception as error:
            told = refused(error)
            body = error_body(told.status, told.message, told.param, told.code)
            headers = {"retry-after": str(RETRY_S)} if told.status == 429 else None
            return JSONResponse(body, told.status, headers)

    return answer
