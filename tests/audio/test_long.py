"""A long WAV file read a piece at a time is what it is as a whole."""

from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.audio import long
from moshi_mlx.audio.files import read, write_wav
from moshi_mlx.audio.long import LongWav, open_sound
from moshi_mlx.errors import AudioError


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
    assert isinstance(sound, LongWav) and len(sound) == len(whole)
    parts = [sound[at : at + step] for at in range(0, len(sound) + step, step)]
    # Sums of other shapes round otherwise; nothing is resampled at 24 kHz.
    atol = 0 if rate == 24000 else 2e-6
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=atol)


def test_little_is_held(tmp_path):
    sound = open_sound(recording(tmp_path / "a.wav", 24000, 1))
    assert isinstance(sound, LongWav)
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


def test_short_damaged_and_other_files_are_read_as_ever(tmp_path):
    short = recording(tmp_path / "short.wav", 24000, 1, seconds=3.0)
    assert isinstance(open_sound(short), np.ndarray)
    whole = recording(tmp_path / "whole.wav", 24000, 1).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AudioError, match="truncated"):
        open_sound(tmp_path / "cut.wav")
    with pytest.raises(AudioError, match="no file"):
        open_sound(tmp_path / "gone.wav")
    (tmp_path / "text.wav").write_bytes(b"RIFF and no more")
    with pytest.raises(AudioError, match="not a sound file"):
        open_sound(tmp_path / "text.wav")
