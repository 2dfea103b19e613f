"""The content of a request for text: its prompt and its settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...gate.refusal import Refused
from .bodies import fields_of

MOST_TOKENS = 4096  # of an answer
_USUAL_TOKENS = 256
_MOST_STOPS, _LONGEST_STOP = 4, 200
_ROLES = {"system": "", "developer": "", "user": "User: ", "assistant": "Assistant: "}


@dataclass(frozen=True)
class TextAsked:
    """A request.

    Attributes:
        prompt: the text to continue.
        most: maximum number of tokens.
        stops: texts at which the answer ends.
        sampling: ``temp``, ``top_p`` and ``seed``, if they were given.
        events: whether the text comes in server-sent events.
        counted: whether the last event says how many tokens there were.
        chat: whether the answer is a message.
    """

    prompt: str
    most: int
    stops: Sequence[str]
    sampling: dict[str, Any]
    events: bool
    counted: bool
    chat: bool


def read_asked(body: bytes, chat: bool) -> TextAsked:
    """The body of a request. Raises: Refused for anything wrong in it."""
    fields = fields_of(body)
    if fields.get("n") not in (None, 1):
        raise Refused(400, "n must be 1: one answer is written.", "n")
    most = _number(fields, "max_tokens", 1, MOST_TOKENS, whole=True)
    if most is None and chat:
        most = _number(fields, "max_completion_tokens", 1, MOST_TOKENS, whole=True)
    sampling = {
        "temp": _number(fields, "temperature", 0, 2),
        "top_p": _number(fields, "top_p", 0, 1),
        "seed": _number(fields, "seed", -(2**63), 2**63 - 1, whole=True),
    }
    if sampling["seed"] is not None:
        sampling["seed"] %= 2**32
    options = fields.get("stream_options")
    return TextAsked(
        _conversation(fields.get("messages")) if chat else _prompt(fields),
        _USUAL_TOKENS if most is None else int(most),
        _stops(fields.get("stop")) + (["\nUser:"] if chat else []),
        {name: value for name, value in sampling.items() if value is not None},
        fields.get("stream") is True,
        isinstance(options, dict) and options.get("include_usage") is True,
        chat,
    )


def _number(
    fields: dict[str, Any], name: str, least: float, most: float, whole: bool = False
) -> Any:
    value = fields.get(name)
    if value is None:
        return None
    kinds = (int,) if whole else (int, float)
    if type(value) not in kinds or not least <= value <= most:
        what = "a whole number" if whole else "a number"
        raise Refused(400, f"{name} must be {what} from {least} to {most}.", name)
    return value


def _prompt(fields: dict[str, Any]) -> str:
    value = fields.get("prompt")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str) or not value:
        raise Refused(400, "prompt must be a text, or a list of one.", "prompt")
    return value


def _conversation(messages: object) -> str:
    """A conversation as a text that a model without chat can continue."""
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "messages must be a list of messages.", "messages")
    said = [_message(message) for message in messages]
    return "\n".join([*said, "Assistant:"])


def _message(message: object) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(message, dict) or role not in list(_ROLES):
        words = f"a message needs a role: one of {', '.join(_ROLES)}."
        raise Refused(400, words, "messages")
    content = message.get("content")
    parts = [content] if isinstance(content, str) else content
    if not isinstance(parts, list):
        raise Refused(400, "the content of a message must be text.", "messages")
    return _ROLES[role] + " ".join(_text(part) for part in parts)


def _text(part: object) -> str:
    text = part.get("text") if isinstance(part, dict) else part
    if not isinstance(text, str):
        raise Refused(400, "the model reads text only.", "messages")
    return text


def _stops(value: object) -> list[str]:
    stops = [value] if isinstance(value, str) else value
    if stops is None:
        return []
    wrong = Refused(400, f"stop must be a text, or up to {_MOST_STOPS}.", "stop")
    if not isinstance(stops, list) or len(stops) > _MOST_STOPS:
        raise wrong
    if not all(isinstance(s, str) and 0 < len(s) <= _LONGEST_STOP for s in stops):
        raise wrong
    return stops
