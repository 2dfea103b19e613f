"""moshi-server's messages to the byte, and what is read from any client."""

import contextlib
import random

import msgpack
import numpy as np
import pytest

from moshi_mlx.errors import ProtocolError
from moshi_mlx.serve.protocols.moshi_server.messages import (
    Singles,
    integer,
    message,
    octets,
    read_message,
    samples,
    text_of,
    voice_numbers,
)

GOLDEN = [
    (message("Ready"), "81a474797065a55265616479"),
    (message("Marker", id=1), "82a474797065a64d61726b6572a2696401"),
    (
        message("EndWord", stop_time=1.5),
        "82a474797065a7456e64576f7264a973746f705f74696d65cb3ff8000000000000",
    ),
    (
        message("Audio", pcm=Singles([0.5])),
        "82a474797065a5417564696fa370636d91ca3f000000",
    ),
    (
        message("Step", prs=Singles([0.5, -1.0])),
        "82a474797065a45374657" + "0a370727392ca3f000000cabf800000",
    ),
    (
        message("OggOpus", data=b"\x01\xff"),
        "82a474797065a74f67674f707573a46461746192" + "01ccff",
    ),
]


@pytest.mark.parametrize("data, golden", GOLDEN)
def test_messages_are_moshi_servers_to_the_byte(data, golden):
    assert data.hex() == golden


def test_bytes_and_samples_are_read_in_both_forms():
    pcm = np.array([0.5, -0.25], np.float32)
    for coded in (pcm.tobytes(), [0.5, -0.25]):
        np.testing.assert_array_equal(samples(coded), pcm)
    np.testing.assert_array_equal(samples([1, 0]), np.array([1, 0], np.float32))
    assert octets(b"Ogg") == octets([79, 103, 103]) == b"Ogg"
    for wrong in (None, "x", [1, "a"], [float("nan")], [1e400], b"abc", [True], {}):
        with pytest.raises(ProtocolError):
            samples(wrong)
    for wrong in (None, "x", [256], [-1], [0.5], {}):
        with pytest.raises(ProtocolError):
            octets(wrong)
    for wrong in (None, 1.0, True, "1", 2**63):
        with pytest.raises(ProtocolError):
            integer(wrong)


def test_any_bytes_are_a_message_or_a_protocol_error():
    chance = random.Random(3)
    good = [
        msgpack.packb({"type": "Audio", "pcm": [0.5] * 20}),
        msgpack.packb({"type": "Marker", "id": 5}),
        msgpack.packb({"type": "OggOpus", "data": list(b"OggS" * 8)}),
        msgpack.packb({"type": "Voice", "embeddings": [1.0], "shape": [1]}),
    ]
    read_well = 0
    for _ in range(200):
        data = bytearray(chance.choice(good) or b"")
        for _ in range(chance.randrange(3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            kind, fields = read_message(bytes(data))
        except ProtocolError:
            continue
        assert isinstance(kind, str) and isinstance(fields, dict)
        for read in (samples, octets, integer):
            for value in fields.values():
                with contextlib.suppress(ProtocolError):
                    read(value)
        read_well += 1
    assert 20 < read_well < 200


def test_numbers_and_texts_have_their_range():
    for whole in (2**63 - 1, -(2**63), 0):
        assert integer(whole) == whole
    for wrong in (2**63, 2**64, -(2**63) - 1):
        with pytest.raises(ProtocolError):
            integer(wrong)
    assert text_of("") == ""
    with pytest.raises(ProtocolError, match="a text was expected"):
        text_of(b"x")


def test_a_message_holds_a_minute_or_a_mebibyte_at_most():
    minute = bytes(4 * 24000 * 60)
    assert len(samples(minute)) == 24000 * 60
    with pytest.raises(ProtocolError, match="more than a minute"):
        samples(minute + bytes(4))
    mebibyte = [7] * (1 << 20)
    assert octets(mebibyte) == bytes(mebibyte)
    with pytest.raises(ProtocolError):
        octets([*mebibyte, 7])


@pytest.mark.parametrize("shape", [[6], [2, 3], [1, 2, 3]])
def test_a_voice_has_the_shape_that_it_says(shape):
    numbers, sizes = voice_numbers({"embeddings": [0.5] * 6, "shape": shape})
    assert len(numbers) == 6 and sizes == shape


@pytest.mark.parametrize(
    "shape",
    [None, 6, [], [1, 1, 2, 3], [5], [7], [-2, -3], [0, 6], [2.0, 3], [2**62, 2**62]],
)
def test_a_voice_of_another_shape_is_refused(shape):
    with pytest.raises(ProtocolError):
        voice_numbers({"embeddings": [0.5] * 6, "shape": shape})
    with pytest.raises(ProtocolError):
        voice_numbers({"embeddings": [], "shape": [0]})
