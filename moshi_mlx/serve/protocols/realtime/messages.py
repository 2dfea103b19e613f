"""Events of the Realtime API: JSON objects with a ``type``; sound is in base64."""

import base64
import json
import uuid
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from ....errors import NoPlace, NotServed, ProtocolError
from ...sounds import from_base64

EventFields = Mapping[str, Any]


class BadEvent(ProtocolError):
    """An event that cannot be handled; the session continues.

    Attributes:
        code: for programs.
        param: the wrong field.
    """

    def __init__(
        self, words: str, code: str = "invalid_value", param: str | None = None
    ):
        super().__init__(words)
        self.code, self.param = code, param


class Tell(Protocol):
    """Sends an event: ``await tell("input_audio_buffer.cleared", ...)``."""

    def __call__(self, kind: str, /, **fields: Any) -> Awaitable[None]: ...


def new_id(kind: str) -> str:
    """An id such as "item_7f3c..."."""
    return f"{kind}_{uuid.uuid4().hex[:24]}"


def read_event(data: bytes | str) -> EventFields:
    """A client's event. Raises: BadEvent for anything else."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadEvent("the event is not JSON.", "invalid_json") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        raise BadEvent("the event is not a JSON object with a type.", param="type")
    return fields


def sound_of(fields: EventFields) -> bytes:
    """The sound of an ``append`` event. Raises: BadEvent."""
    sound = from_base64(fields.get("audio"))
    if sound is None:
        raise BadEvent("audio must be sound in base64.", "invalid_audio", "audio")
    return sound


def coded(data: bytes) -> str:
    """Sound as events carry it."""
    return base64.b64encode(data).decode()


def error_fields(error: Exception, event_id: object = None) -> dict[str, Any]:
    """The contents of an ``error`` event."""
    kind, code, param = "invalid_request_error", None, None
    words = str(error)
    if isinstance(error, BadEvent):
        code, param = error.code, error.param
    elif isinstance(error, NoPlace):
        kind, code = "rate_limit_error", "rate_limit_exceeded"
    elif isinstance(error, NotServed):
        code = "model_not_found"
    elif not isinstance(error, ProtocolError):
        kind, code, words = "server_error", "server_error", "the server failed."
    event_id = event_id if isinstance(event_id, str) else None
    return {
        "type": kind,
        "code": code,
        "message": words,
        "param": param,
        "event_id": event_id,
    }
