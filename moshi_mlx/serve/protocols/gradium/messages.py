"""Gradium's messages: JSON objects with a ``type``; sound is in base64."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from ....errors import ProtocolError
from ...sounds import from_base64

MOST_CHARS = 100_000  # characters of a message or a posted text
SOUND_FORMATS = "pcm, pcm_RATE, wav, opus, ulaw_8000 or alaw_8000"
Fields = Mapping[str, Any]


def read_message(data: bytes | str) -> Fields:
    """A client's message.

    Raises: ProtocolError for anything but a JSON object with a ``type``.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a message is not JSON.") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        raise ProtocolError("a message is not a JSON object with a type.")
    return fields


def string(fields: Fields, *names: str) -> str | None:
    """The first field that is present. Raises: ProtocolError if not a string."""
    for name in names:
        value = fields.get(name)
        if value is not None:
            if not isinstance(value, str) or len(value) > MOST_CHARS:
                raise ProtocolError(f"{name} must be a string.")
            return value
    return None


def is_rate(text: str) -> bool:
    """Whether a format ends in a sample rate, which is checked later."""
    return text.isascii() and text.isdigit() and len(text) <= 6


def words_of(fields: Fields) -> str:
    """The text of a message; it ends a word. Raises: ProtocolError."""
    text = string(fields, "text")
    if text is None:
        raise ProtocolError("a text message needs a text.")
    return f"{text} "


def sound_of(fields: Fields) -> bytes:
    """The bytes of an audio message. Raises: ProtocolError."""
    sound = from_base64(fields.get("audio"))
    if sound is None:
        raise ProtocolError("an audio message needs its audio, in base64.")
    return sound


def settings_of(fields: Fields) -> Fields:
    """``json_config``, an object or the JSON of one. Raises: ProtocolError."""
    config = fields.get("json_config")
    if isinstance(config, str):
        try:
            config = json.loads(config) if config else None
        except (ValueError, RecursionError):
            config = False
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise ProtocolError("json_config must be a JSON object.")
    return config


def audio(data: bytes, start_s: float, stop_s: float) -> dict[str, Any]:
    """A piece of sound."""
    return {
        "type": "audio",
        "audio": base64.b64encode(data).decode(),
        "start_s": round(start_s, 4),
        "stop_s": round(stop_s, 4),
    }
