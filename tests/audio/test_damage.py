"""Cut, joined, unfinished and damaged files: what is there is read, the rest told."""

import logging
import os
import struct

import numpy as np
import pytest

from moshi_mlx import audio
from moshi_mlx.audio import files, long, opening
from moshi_mlx.errors import AudioError
from tests.audio.made import (
    PACKED,
    PLAIN,
    RATE,
    SECONDS,
    loudest_hz,
    made,
    packed,
    plain,
    tone,
)

DAMAGED = b"\x5a\xa5\x3c\x7e" * 60
ID3 = b"ID3\x04\0\0\0\0\x02\x01" + bytes(257)  # an empty tag


def seconds_of(data: bytes) -> float:
    return audio.read(data).shape[1] / RATE


@pytest.mark.parametrize(
    "kind", ["wav", "w64", "rf64", "au", "aiff", "caf", "flac", "mp3", "wma"]
)
def test_of_a_cut_file_the_rest_is_read_and_what_is_missing_told(kind: str, caplog):
    data = made(kind)
    got = seconds_of(data[: len(data) * 2 // 3])
    assert got == pytest.approx(2.0, abs=0.2)
    assert "ends after" in caplog.text and "was cut off or is damaged" in caplog.text
    said = caplog.messages[0].split()
    assert float(said[said.index("after") + 1]) == pytest.approx(got, abs=0.06)
    within = 0.3 if kind == "wma" else 0.15  # of which its header counts bytes only
    assert float(said[said.index("of") + 2]) == pytest.approx(SECONDS, abs=within)


@pytest.mark.parametrize("kind", ["m4a", "mp4", "mov", "3gp"])
def test_a_file_that_was_cut_before_its_index_is_named(kind: str):
    data = made(kind)
    for cut in (len(data) // 2, data.rindex(b"moov") + 20):
        with pytest.raises(AudioError, match=r"was cut off before its index \(moov\)"):
            audio.read(data[:cut])


@pytest.mark.parametrize("kind", ["ogg", "opus"])
def test_of_a_cut_ogg_the_rest_is_read_and_told(kind: str, caplog):
    data = made(kind, seconds=20.0)
    got = seconds_of(data[: len(data) * 2 // 3])
    assert 5.0 < got < 14.0
    assert f"its end is missing, so what is there is read: {got:.1f} s" in caplog.text


@pytest.mark.parametrize("kind", ["aac", "amr"])
def test_a_cut_stream_without_a_length_promises_nothing(kind: str, caplog):
    data = made(kind)
    assert seconds_of(data[: len(data) * 2 // 3]) == pytest.approx(2.0, abs=0.2)
    assert not caplog.records


def streamed_mp3(bit_rate: int) -> bytes:
    """An MP3 as radio stations and encoders into a pipe send it: without a table."""
    return packed(tone(), *PACKED["mp3"], bit_rate=bit_rate, write_xing="0")


def test_a_streamed_mp3_promises_nothing(caplog):
    few, many = streamed_mp3(32_000), streamed_mp3(128_000)
    assert b"Xing" not in few and b"Info" not in few
    for data in (few + many, many + few, ID3 + few + many, 2 * ID3 + few + many):
        assert seconds_of(data) == pytest.approx(2 * SECONDS, abs=0.3)
    assert seconds_of(many[: len(many) * 2 // 3]) == pytest.approx(2.0, abs=0.3)
    assert not caplog.records


def test_a_tag_that_mentions_the_table_is_none(caplog):
    title = b"TIT2\0\0\0\x09\0\0\0Info\0\0\0\x01"
    tag = b"ID3\x03\0\0\0\0\0" + bytes([len(title)]) + title
    seconds_of(tag + streamed_mp3(32_000) + streamed_mp3(128_000))
    assert not caplog.records


@pytest.mark.parametrize("kind", ["wav", "ogg", "opus", "flac", "mp3", "aac"])
def test_joined_files_are_read_one_after_the_other(kind: str, caplog):
    pcm = audio.read(made(kind, 440) + made(kind, 880))[0]
    assert len(pcm) / RATE == pytest.approx(2 * SECONDS, abs=0.2)
    half = len(pcm) // 2
    assert loudest_hz(pcm[: half - RATE // 4]) == pytest.approx(440, abs=5)
    assert loudest_hz(pcm[half + RATE // 4 :]) == pytest.approx(880, abs=5)
    assert not caplog.records


def test_joined_files_may_differ_in_rate_and_channels():
    stereo = np.stack([tone(880), tone(880)])
    data = made("wav") + plain(stereo, "WAV", "PCM_16", rate=48000)
    pcm = audio.read(data)[0]
    assert len(pcm) == pytest.approx(1.5 * SECONDS * RATE, abs=2)
    assert loudest_hz(pcm[-RATE:]) == pytest.approx(2 * 880, abs=5)  # twice as fast
    assert len(audio.read(data, mono=False)) == 1
    assert (
        len(audio.read(plain(stereo, "WAV", "PCM_16") + made("wav"), mono=False)) == 2
    )
    expected = audio.read(data)
    found = list(audio.frames(data))
    np.testing.assert_allclose(
        np.concatenate(found)[: expected.shape[1]], expected[0], rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("kind", ["flac", "mp3", "aac", "ogg", "opus"])
def test_damage_in_the_middle_costs_only_what_is_damaged(kind: str, caplog):
    data, long_s = bytearray(made(kind, seconds=20.0)), 20.0
    middle = len(data) // 2
    damage = DAMAGED * (8 if kind == "mp3" else 1)
    data[middle : middle + len(damage)] = damage
    pcm = audio.read(bytes(data))[0]
    lost = {"ogg": 5.0, "opus": 2.0}.get(kind, 0.6)  # Ogg loses whole pages
    assert long_s - lost < len(pcm) / RATE < long_s + 0.1
    assert loudest_hz(pcm[-RATE:]) == pytest.approx(440, abs=5)  # the end is there
    assert caplog.messages and "damaged" in caplog.text


@pytest.mark.parametrize("kind", ["flac", "mp3", "aac"])
def test_a_long_file_goes_on_behind_damage(kind: str, monkeypatch):
    monkeypatch.setattr(long, "LONG_S", 5.0)
    data = bytearray(made(kind, seconds=45.0))
    for place in (0.3, 0.75):
        at = int(place * len(data))
        data[at : at + len(DAMAGED)] = DAMAGED
    sound, whole = long.open_sound(bytes(data)), audio.read(made(kind, seconds=45.0))[0]
    pcm = sound[: len(whole)]
    assert len(pcm) == pytest.approx(len(whole), abs=0.6 * RATE)
    same = np.isclose(pcm[: len(whole)], whole[: len(pcm)], atol=1e-3)
    assert same[: 10 * RATE].all()
    assert kind != "flac" or same[31 * RATE : 33 * RATE].all()  # its frames tell time
    assert loudest_hz(pcm[-RATE:]) == pytest.approx(440, abs=5)


SIZES = {  # of RIFF (None: right) and of the samples
    "never finished": (0, 0),
    "not known": (0xFFFFFFFF, 0xFFFFFFFF),
    "from a pipe": (0x7FFFF024, 0x7FFFF000),
    "too small": (1036, 1000),
    "samples too small": (None, 1000),
    "samples 0": (None, 0),
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("kind", ["wav", "float.wav"])
def test_a_wav_with_a_wrong_size_is_read_to_its_end(kind, sizes, caplog):
    data = bytearray(made(kind))
    at = data.index(b"data") + 4
    for place, size in zip((4, at), sizes, strict=True):
        if size is not None:
            data[place : place + 4] = struct.pack("<I", size)
    np.testing.assert_array_equal(audio.read(bytes(data)), audio.read(made(kind)))
    assert "it is read to its end: 3.0 s" in caplog.text


def test_an_rf64_that_was_never_finished_is_read_to_its_end(caplog):
    data = bytearray(made("rf64"))
    at = data.index(b"ds64") + 8
    data[at : at + 24] = bytes(24)
    np.testing.assert_array_equal(audio.read(bytes(data)), audio.read(made("rf64")))
    assert "it is read to its end: 3.0 s" in caplog.text


def test_what_follows_the_samples_of_a_wav_is_no_sound(caplog):
    whole = audio.read(made("wav"))
    for tail in (
        b"LIST\x04\x00\x00\x00INFO",
        b"id3 \x03\x00\x00\x00abc\x00",
        b"TAG" + bytes(125),
        bytes(5000),
    ):
        np.testing.assert_array_equal(audio.read(made("wav") + tail), whole)
    assert not caplog.records


def sized(kind: str, size: int) -> bytes:
    """A file whose samples take ``size`` bytes, as its header says."""
    if kind == "au":
        data = made("au")
        return data[:8] + struct.pack(">I", size) + data[12:]
    if kind == "rifx":
        samples = (tone() * 32767).astype(">i2").tobytes()
        head = struct.pack(
            ">4sI4s4sIHHIIHH",
            b"RIFX",
            0,
            b"WAVE",
            b"fmt ",
            16,
            1,
            1,
            RATE,
            2 * RATE,
            2,
            16,
        )
        return head + struct.pack(">4sI", b"data", size) + samples
    kinds = {"adpcm": ("WAV", "MS_ADPCM"), "aiff": ("AIFF", "PCM_16")}
    data = made("caf") if kind == "caf" else plain(tone()[None], *kinds[kind])
    name, how = {"aiff": (b"SSND", ">I"), "caf": (b"data", ">q")}.get(
        kind, (b"data", "<I")
    )
    at = data.index(name) + 4
    return data[:at] + struct.pack(how, size) + data[at + struct.calcsize(how) :]


@pytest.mark.parametrize("size", [0, 1000])
@pytest.mark.parametrize("kind", ["au", "aiff", "caf", "rifx", "adpcm"])
def test_other_files_with_a_wrong_size_are_read_to_their_end(kind, size, caplog):
    pcm = audio.read(sized(kind, size))[0]
    np.testing.assert_allclose(pcm[: len(tone())], tone(), atol=2e-2)
    assert "it is read to its end: 3." in caplog.text


def test_a_chunk_without_its_padding_costs_nothing(caplog):
    data = made("wav")
    at = data.index(b"data")
    odd = data[:at] + struct.pack("<4sI", b"note", 3) + b"abc" + data[at:]
    np.testing.assert_array_equal(audio.read(odd), audio.read(data))
    assert not caplog.records


def test_a_wav_that_was_never_finished_may_be_longer_than_its_header_can_say(tmp_path):
    data, path = bytearray(made("wav")), tmp_path / "long.wav"
    at = data.index(b"data") + 4
    data[at : at + 4] = bytes(4)
    path.write_bytes(data)
    os.truncate(path, 5 * 2**30)  # no bytes are written
    sound = opening.OpenedSound(path)
    assert sound.length_s == pytest.approx(5 * 2**30 / (2 * RATE), abs=1)
    first, _ = next(iter(sound.blocks()))
    np.testing.assert_allclose(first[0, : len(tone())], tone(), atol=1e-4)
    sound.close()


@pytest.mark.parametrize("empty", [b"", b"LIST\x04\x00\x00\x00INFO"])
def test_a_recording_of_nothing_holds_no_sound(empty: bytes):
    data = plain(tone()[None, :0], "WAV", "PCM_16")
    with pytest.raises(AudioError, match="holds no sound"):
        audio.read(data + empty)


def test_damage_at_the_end_of_an_ogg_file_is_told(caplog):
    data = bytearray(made("ogg", seconds=20.0))
    data[-2000:-1500] = bytes(500)
    assert seconds_of(bytes(data)) < 19.0
    assert "of its 20.0 s are missing" in caplog.text


@pytest.mark.parametrize("kind", ["flac", "flac.ogg"])
def test_what_follows_damage_in_a_lossless_file_keeps_its_time(kind: str, caplog):
    t = np.arange(25 * RATE) / RATE  # nothing in a rising tone is there twice
    rising = (0.3 * np.sin(2 * np.pi * (200 + 10 * t) * t)).astype(np.float32)
    made_of = packed(rising, *PACKED[kind]) if kind in PACKED else None
    data = bytearray(made_of or plain(rising[None], *PLAIN[kind]))
    whole = audio.read(bytes(data))[0]
    at = len(data) // 4
    data[at : at + len(DAMAGED)] = DAMAGED
    pcm = audio.read(bytes(data))[0]
    same = np.isclose(pcm, whole, atol=1e-3)
    bad = np.flatnonzero(~same)
    assert len(pcm) == len(whole)
    assert 0 < (bad[-1] - bad[0]) / RATE < 1.5
    assert "damaged near 0:00, some of it is silence" in caplog.text


def test_joined_flac_in_ogg_is_read():
    assert seconds_of(2 * made("flac.ogg")) == pytest.approx(2 * SECONDS, abs=0.05)


def test_a_compressed_core_audio_file_that_was_cut_before_its_index_is_named():
    data = made("alac.caf")
    with pytest.raises(AudioError, match="was cut off before its index, without"):
        audio.read(data[: len(data) // 2])


def test_a_file_without_its_beginning_is_named_where_nothing_can_be_read():
    for kind in ("wav", "ogg", "opus", "w64"):
        with pytest.raises(AudioError, match="is not a sound file that can be read"):
            audio.read(made(kind)[300:])
    assert seconds_of(made("mp3")[300:]) > 2.5


def test_many_small_parts_are_no_way_to_keep_a_reader_busy():
    head = made("flac")[:42]
    assert 0.0 < seconds_of(made("flac") + head * 5000) < SECONDS + 0.1


def test_samples_that_are_no_numbers_end_no_long_recording(monkeypatch, caplog):
    monkeypatch.setattr(long, "LONG_S", 1.0)
    pcm = tone(seconds=12.0)
    pcm[5 * RATE : 5 * RATE + 10] = np.nan, np.inf, *[-np.inf] * 8
    data = plain(pcm[None], "WAV", "FLOAT")
    with caplog.at_level(logging.WARNING):
        found = np.concatenate(list(audio.frames(data)))
    expected = np.nan_to_num(pcm, nan=0, posinf=0, neginf=0)
    np.testing.assert_array_equal(found[: len(pcm)], expected)
    assert "not numbers (NaN or infinite): they are silence" in caplog.text
    with pytest.raises(AudioError, match="not numbers"):
        files.read(data)


@pytest.mark.parametrize("scale", [32767.0, 1e38])
def test_floats_far_beyond_full_scale_are_named(scale: float, monkeypatch, caplog):
    pcm = scale * tone()
    data = plain(pcm[None], "WAV", "FLOAT")
    with pytest.raises(AudioError, match="though full scale is 1"):
        files.read(data)
    monkeypatch.setattr(long, "LONG_S", 1.0)
    assert np.abs(long.open_sound(data)[: len(pcm)]).max() < 101
    assert "they are silence" in caplog.text
