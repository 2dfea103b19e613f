import contextlib
import io

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from moshi_mlx.errors import ProtocolError
from moshi_mlx.serve.opus import (
    OpusReader,
    OpusWriter,
    PcmReader,
    PcmWriter,
    packet_ms,
)
from tests.serve.ogg import beginning, opus_head, page

FRAME = 1920
SHORT = b"\xf8"  # CELT, 20 ms, one frame: 480 samples at 24 kHz


def tone(seconds: float, hz: float = 440) -> np.ndarray:
    t = np.arange(int(24000 * seconds)) / 24000
    return (0.3 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def encode(pcm: np.ndarray) -> list[bytes]:
    writer = OpusWriter()
    return [writer.push(pcm[i : i + FRAME]) for i in range(0, len(pcm), FRAME)]


def test_every_frame_comes_back_at_once_and_sounds_the_same():
    pcm = tone(2.4)
    reader = OpusReader()
    parts = [reader.push(piece) for piece in encode(pcm)]
    assert [len(part) for part in parts] == [FRAME] * 30
    spectrum = np.abs(np.fft.rfft(np.concatenate(parts)[24000:48000]))
    assert spectrum.argmax() == 440
    level = np.sqrt(np.mean(np.concatenate(parts)[24000:48000] ** 2))
    assert abs(level - 0.3 / np.sqrt(2)) < 0.02


def test_a_player_leaves_out_no_more_than_the_encoders_delay():
    pcm = tone(0.8)
    heard, rate = soundfile.read(io.BytesIO(b"".join(encode(pcm))), dtype="float32")
    assert rate == 48000 and len(heard) == 2 * len(pcm) - 312
    assert np.abs(heard[:480]).max() > 0.25  # the first 10 ms are there


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 700))
def test_pieces_of_any_size_decode_the_same(size):
    stream = b"".join(encode(tone(0.8)))
    whole = OpusReader().push(stream)
    reader = OpusReader()
    parts = [reader.push(stream[i : i + size]) for i in range(0, len(stream), size)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_second_stream_may_follow_the_first():
    reader = OpusReader()
    first = reader.push(b"".join(encode(tone(0.4))))
    second = reader.push(b"".join(encode(tone(0.4))))
    np.testing.assert_array_equal(first, second)


def test_a_packet_may_span_pages():
    reader = OpusReader()
    packet = SHORT + bytes(300)
    assert reader.push(beginning()).size == 0
    assert reader.push(page([packet[:255]], 2, open_end=True)).size == 0
    assert len(reader.push(page([packet[255:]], 3, flags=1))) == 480


@pytest.mark.parametrize(
    "packet, milliseconds",
    [
        (b"\xf8", 20),
        (b"\xe0", 2.5),
        (b"\x18", 60),
        (b"\x19", 120),
        (b"\x60", 10),
        (b"\x1b\x02", 120),
        (b"\xfb\x06", 120),
    ],
)
def test_the_length_of_a_packet_is_read_from_its_head(packet, milliseconds):
    assert packet_ms(packet) == milliseconds


@pytest.mark.parametrize(
    "stream, words",
    [
        (b"RIFFxxxx", "not Ogg-Opus"),
        (page([SHORT], 5), "does not begin"),
        (page([b"\x01vorbis"], 0, flags=2), "no Opus"),
        (page([opus_head()], 0, flags=2) + page([SHORT], 1), "OpusTags"),
        (beginning() + page([b""], 2), "empty"),
        (beginning() + page([b"\x1b\x03"], 2), "claims 3 frames"),
        (beginning() + page([b"\x03"], 2), "claims 0 frames"),
        (beginning() + page([b"\x19"] * 150, 2), "more than 12 s"),
        (beginning() + page([SHORT + bytes(9000)], 2), "longer than 8192"),
        (beginning() + page([SHORT], 2, serial=8), "mixed"),
        (beginning() + page([SHORT], 2, flags=1), "does not go on"),
        (beginning() + page([b"\xff\x3f"], 2), "claims"),
    ],
)
def test_what_is_no_sound_is_refused(stream, words):
    with pytest.raises(ProtocolError, match=words):
        OpusReader().push(stream)


def test_damaged_packets_are_refused():
    more_padding_than_packet = b"\xfb\x41\xff\x00"
    stream = beginning() + page([more_padding_than_packet], 2)
    with pytest.raises(ProtocolError, match="damaged"):
        OpusReader().push(stream)


def test_no_bytes_make_more_sound_than_a_message_may_hold():
    """Every message of 60 kB of the densest legal packets stays under 12 s."""
    stream = beginning() + b"".join(page([b"\x19"] * 255, n) for n in range(2, 100))
    with pytest.raises(ProtocolError, match="12 s"):
        OpusReader().push(stream)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_random_bytes_are_decoded_or_refused(data, after_a_beginning):
    reader = OpusReader()
    if after_a_beginning:
        reader.push(beginning())
    with contextlib.suppress(ProtocolError):
        assert len(reader.push(data)) <= 12 * 24000


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=12))
def test_random_packets_are_decoded_or_refused(packets):
    reader = OpusReader()
    with contextlib.suppress(ProtocolError):
        pcm = reader.push(beginning() + page(packets, 2))
        assert len(pcm) == sum(packet_ms(packet) for packet in packets) * 24


def test_samples_cross_unchanged():
    pcm = tone(0.08)
    np.testing.assert_array_equal(PcmReader().push(PcmWriter().push(pcm)), pcm)


@pytest.mark.parametrize(
    "data, words",
    [
        (b"\x00" * 6, "whole float32"),
        (np.array([np.nan], "<f4").tobytes(), "not numbers"),
        (bytes(4 * (12 * 24000 + 1)), "12 s"),
    ],
)
def test_what_are_no_samples_is_refused(data, words):
    with pytest.raises(ProtocolError, match=words):
        PcmReader().push(data)


def test_samples_are_kept_in_range():
    loud = np.array([-7, 0.5, 3e38], "<f4").tobytes()
    np.testing.assert_array_equal(PcmReader().push(loud), [-1, 0.5, 1])
