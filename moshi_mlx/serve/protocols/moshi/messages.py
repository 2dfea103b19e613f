"""Moshi's WebSocket messages: the first byte is the kind, the rest is the payload.

Both sides use it at `/api/chat`. Unknown kinds are ignored on receipt, as the protocol
asks; only kinds 0 to 7 are sent, because Kyutai's page throws on others.

Source: kyutai-labs/moshi, rust/protocol.md, client/src/protocol/encoder.ts; of images
kyutai-labs/moshivis, client/src.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from ....errors import ProtocolError


class MessageKind(IntEnum):
    """First byte of a message."""

    HANDSHAKE = 0  # from the server: it is ready to listen
    AUDIO = 1  # a piece of one Ogg-Opus stream, or float32 samples
    TEXT = 2  # UTF-8
    CONTROL = 3  # one byte, see Control
    METADATA = 4  # UTF-8 JSON
    ERROR = 5  # UTF-8
    PING = 6  # nothing
    COLORED_TEXT = 7  # a byte for the colour, then UTF-8
    IMAGE = 8  # from the client: a whole file


class Control(IntEnum):
    """What a control message asks for."""

    START = 0  # continue after a pause
    END_TURN = 1  # of push-to-talk clients; a full-duplex model needs no turns
    PAUSE = 2
    RESTART = 3  # forget the conversation, start a new one


PROTOCOL_VERSION = 0
MODEL_VERSION = 0
PING = bytes([MessageKind.PING])


@dataclass(frozen=True)
class Message:
    """A message as it was received.

    Attributes:
        kind: its first byte.
        payload: the rest; a view, valid as long as the received bytes are.
    """

    kind: MessageKind
    payload: memoryview

    @property
    def text(self) -> str:
        """The payload as text; raises ProtocolError if it is not UTF-8."""
        try:
            return bytes(self.payload).decode()
        except UnicodeDecodeError as error:
            raise ProtocolError(
                f"a {self.kind.name.lower()} message is not UTF-8: {error}."
            ) from error

    @property
    def control(self) -> Control:
        """What a control message asks for; raises ProtocolError for anything else."""
        value = self.payload[0] if len(self.payload) else None
        if value is None or value >= len(Control):
            raise ProtocolError(
                f"control message {value} is unknown: send one byte, 0 (start), "
                "1 (end of turn), 2 (pause) or 3 (restart)."
            )
        return Control(value)


def parse(data: bytes) -> Message | None:
    """Read a message; None for an unknown kind, which is to be ignored.

    Raises: ProtocolError for an empty message.
    """
    if not data:
        raise ProtocolError("an empty message came: the first byte names its kind.")
    if data[0] > MessageKind.IMAGE:
        return None
    return Message(MessageKind(data[0]), memoryview(data)[1:])


def handshake() -> bytes:
    """Tells a client that it may speak now."""
    return struct.pack("<BII", MessageKind.HANDSHAKE, PROTOCOL_VERSION, MODEL_VERSION)


def audio(payload: bytes) -> bytes:
    return bytes([MessageKind.AUDIO]) + payload


def text(words: str) -> bytes:
    return bytes([MessageKind.TEXT]) + words.encode()


def control(what: Control) -> bytes:
    return bytes([MessageKind.CONTROL, what])


def metadata(fields: Mapping[str, object]) -> bytes:
    """JSON; a NaN would not be JSON and raises ValueError."""
    return bytes([MessageKind.METADATA]) + json.dumps(fields, allow_nan=False).encode()


def error(words: str) -> bytes:
    return bytes([MessageKind.ERROR]) + words.encode()


def colored_text(color: int, words: str) -> bytes:
    return bytes([MessageKind.COLORED_TEXT, color]) + words.encode()
