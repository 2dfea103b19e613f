"""A long file read a piece at a time is what it is as a whole.

long.flac and long.mp3 in the data (23 s, 8 kHz) are chirps that libsndfile wrote.
"""

import logging
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from moshi_mlx.audio import long
from moshi_mlx.audio.decode import Plain
from moshi_mlx.audio.files import read, write_wav
from moshi_mlx.audio.long import LongSound, frames, open_sound
from moshi_mlx.errors import AudioError

DATA = Path(__file__).parents[1] / "data" / "audio"


def recording(path: Path, rate: int, channels: int, seconds: float = 34.3) -> Path:
    rng = np.random.default_rng(0)
    pcm = rng.normal(0, 0.2, (channels, round(seconds * rate))).astype(np.float32)
    write_wav(path, pcm, rate)
    return path


@pytest.fixture(autouse=True)
def _short_is_long(monkeypatch):
    monkeypatch.setattr(long, "LONG_S", 20.0)


@pytest.mark.parametrize("rate, channels", [(24000, 1), (44100, 2), (8000, 1)])
@pytest.mark.parametrize("step", [1920, 30720, 500_000])
def test_pieces_are_the_whole(tmp_path, rate: int, channels: int, step: int):
    path = recording(tmp_path / "a.wav", rate, channels)
    whole, sound = read(path)[0], open_sound(path)
    assert isinstance(sound, LongSound) and len(sound) == len(whole)
    parts = [sound[at : at + step] for at in range(0, len(sound) + step, step)]
    # Sums of other shapes round otherwise; nothing is resampled at 24 kHz.
    atol = 0 if rate == 24000 else 2e-6
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["long.flac", "long.mp3"])
@pytest.mark.parametrize("rate", [8000, 24000])
def test_pieces_of_packed_files_are_the_whole(name: str, rate: int):
    whole, sound = read(DATA / name, rate)[0], open_sound(DATA / name, rate)
    assert isinstance(sound, LongSound) and len(sound) == len(whole)
    parts = [sound[at : at + 1920] for at in range(0, len(sound), 1920)]
    atol = 0 if rate == 8000 else 2e-6
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["a.wav", "long.flac", "long.mp3"])
def test_frames_of_a_long_file_are_the_file_and_then_silence(tmp_path, name: str):
    path = DATA / name
    if not path.exists():
        path = recording(tmp_path / name, 24000, 1)
    whole, found = read(path)[0], list(frames(path))
    assert {frame.shape for frame in found} == {(1920,)}
    found = np.concatenate(found)
    np.testing.assert_allclose(found[: len(whole)], whole, rtol=0, atol=2e-6)
    assert len(found) - len(whole) < 1920 and not found[len(whole) :].any()


@pytest.mark.parametrize("name", ["a.wav", "long.flac", "long.mp3"])
def test_little_is_held(tmp_path, name: str):
    path = DATA / name
    if not path.exists():
        path = recording(tmp_path / name, 24000, 1)
    sound = open_sound(path)
    assert isinstance(sound, LongSound)
    held = []
    for at in range(0, len(sound), 1920):
        sound[at : at + 1920]
        held.append(sound.held)
    assert max(held) <= 11 * 24000


def test_it_is_read_forwards(tmp_path):
    sound = open_sound(recording(tmp_path / "a.wav", 24000, 1))
    sound[400_000:400_100]
    with pytest.raises(ValueError, match="forwards"):
        sound[0:10]


def test_a_voice_of_hours_is_refused_before_it_is_read(tmp_path):
    with pytest.raises(AudioError, match=r"long\.flac is longer than 0 minutes"):
        long.short_sound(DATA / "long.flac")
    short = recording(tmp_path / "a.wav", 24000, 1, seconds=2.0)
    np.testing.assert_array_equal(long.short_sound(short), read(short)[0])


def test_a_tag_before_an_mp3_is_stepped_over(tmp_path):
    tag = b"ID3\x04\x00\x00\x00\x00\x02\x01" + bytes(257)
    path = tmp_path / "tagged.mp3"
    path.write_bytes(tag + (DATA / "long.mp3").read_bytes())
    sound = open_sound(path)
    assert isinstance(sound, LongSound)
    np.testing.assert_array_equal(sound[:48000], read(path)[0][:48000])


def test_an_mp3_whose_length_is_not_known_is_read_whole(tmp_path):
    data = (DATA / "long.mp3").read_bytes()  # its length follows from the file's size
    path = tmp_path / "longer.mp3"
    path.write_bytes(data + bytes(len(data) // 2))
    found = open_sound(path, 8000)
    np.testing.assert_array_equal(found[:400_000], read(DATA / "long.mp3", 8000)[0])
    assert len(found) == len(read(DATA / "long.mp3", 8000)[0])


def damaged(path: Path, at: int, new: bytes) -> LongSound:
    data = bytearray((DATA / f"long{path.suffix}").read_bytes())
    data[at : at + len(new)] = new
    path.write_bytes(data)
    sound = open_sound(path, 8000)
    assert isinstance(sound, LongSound)
    return sound


def test_what_the_last_piece_lost_is_silence(tmp_path, caplog):
    whole = read(DATA / "long.flac", 8000)[0]
    at = round(0.91 * (DATA / "long.flac").stat().st_size)
    sound = damaged(tmp_path / "damaged.flac", at, bytes(1000))
    with caplog.at_level(logging.WARNING):
        found = sound[0 : len(sound)]
    assert "damaged.flac is damaged near 0:20, some of it is silence" in caplog.text
    assert len(found) == len(whole) and not found[-1000:].any()
    np.testing.assert_array_equal(found[:160000], whole[:160000])


def test_what_cannot_be_read_in_the_middle_is_silence(tmp_path, caplog):
    data = (DATA / "long.mp3").read_bytes()
    frame = data.index(data[:2], len(data) // 2)
    sound = damaged(tmp_path / "damaged.mp3", frame + 4, b"\xff\xff\xff")
    found, whole = sound[0:400_000], read(DATA / "long.mp3", 8000)[0]
    assert "damaged.mp3 is damaged near 0:10, some of it is silence" in caplog.text
    assert len(found) == pytest.approx(len(whole), abs=800)
    np.testing.assert_array_equal(found[:80000], whole[:80000])
    assert found[-8000:].any()


def test_short_damaged_and_other_files_are_read_as_ever(tmp_path):
    short = recording(tmp_path / "short.wav", 24000, 1, seconds=3.0)
    assert isinstance(open_sound(short), np.ndarray)
    whole = recording(tmp_path / "whole.wav", 24000, 1).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    cut, half = open_sound(tmp_path / "cut.wav"), read(tmp_path / "whole.wav")[0]
    np.testing.assert_array_equal(cut, half[: len(cut)])
    assert len(cut) == pytest.approx(len(half) / 2, abs=30)
    with pytest.raises(AudioError, match="no file"):
        open_sound(tmp_path / "gone.wav")
    (tmp_path / "text.wav").write_bytes(b"RIFF and no more")
    with pytest.raises(AudioError, match="not a sound file"):
        open_sound(tmp_path / "text.wav")


def test_a_sound_that_is_too_long_is_closed_before_its_error_is_told(
    monkeypatch, tmp_path
):
    opened: list[BinaryIO] = []
    begin = Plain.__init__

    def noted(self: Plain, file: BinaryIO, *how: Any) -> None:
        opened.append(file)
        begin(self, file, *how)

    monkeypatch.setattr(Plain, "__init__", noted)
    with pytest.raises(AudioError, match="longer than"):
        long.short_sound(recording(tmp_path / "a.wav", 8000, 1))
    assert [file.closed for file in opened] == [True]
