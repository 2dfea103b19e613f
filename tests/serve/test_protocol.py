import contextlib
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moshi_mlx.errors import ProtocolError
from moshi_mlx.serve.protocols.moshi import messages as protocol
from moshi_mlx.serve.protocols.moshi.messages import Control, MessageKind


@pytest.mark.parametrize(
    "made, golden",
    [
        (protocol.handshake(), "00 00000000 00000000"),
        (protocol.audio(b"OggS\x00"), "01 4f676753 00"),
        (protocol.text(" Grüß"), "02 20 47 72 c3bc c39f"),
        (protocol.control(Control.START), "03 00"),
        (protocol.control(Control.END_TURN), "03 01"),
        (protocol.control(Control.PAUSE), "03 02"),
        (protocol.control(Control.RESTART), "03 03"),
        (protocol.metadata({"a": 1}), "04 7b 22 61 22 3a 20 31 7d"),
        (protocol.error("busy"), "05 62 75 73 79"),
        (protocol.PING, "06"),
        (protocol.colored_text(4, "hi"), "07 04 68 69"),
    ],
)
def test_messages_are_these_bytes(made, golden):
    assert made == bytes.fromhex(golden)


def test_every_kind_is_read_back():
    assert sorted(MessageKind) == list(range(9))
    for kind in MessageKind:
        message = protocol.parse(bytes([kind]) + b"\x01xyz")
        assert message is not None
        assert (message.kind, bytes(message.payload)) == (kind, b"\x01xyz")


def test_the_handshake_has_the_rust_clients_fields():
    assert struct.unpack("<BII", protocol.handshake()) == (0, 0, 0)


@pytest.mark.parametrize("kind", [9, 10, 255])
def test_unknown_kinds_are_ignored(kind):
    assert protocol.parse(bytes([kind, 1, 2])) is None


def test_an_empty_message_is_refused():
    with pytest.raises(ProtocolError, match="empty"):
        protocol.parse(b"")


@pytest.mark.parametrize("payload", [b"", b"\x04", b"\xff"])
def test_an_unknown_control_is_refused(payload):
    message = protocol.parse(bytes([MessageKind.CONTROL]) + payload)
    assert message is not None
    with pytest.raises(ProtocolError, match="restart"):
        _ = message.control


def test_text_that_is_no_utf8_is_refused():
    message = protocol.parse(b"\x02\xff")
    assert message is not None
    with pytest.raises(ProtocolError, match="UTF-8"):
        _ = message.text


def test_metadata_is_json_or_nothing():
    assert json.loads(protocol.metadata({"name": "Moshi é"})[1:]) == {"name": "Moshi é"}
    with pytest.raises(ValueError):
        protocol.metadata({"lag": float("nan")})


@given(st.binary(max_size=300))
def test_any_bytes_parse_or_raise_protocol_error(data):
    with contextlib.suppress(ProtocolError):
        message = protocol.parse(data)
        assert (message is None) == (data[0] > max(MessageKind))
        if message is not None and message.kind is MessageKind.CONTROL:
            assert message.control == data[1]
        if message is not None and message.kind is MessageKind.TEXT:
            assert message.text.encode() == data[1:]
