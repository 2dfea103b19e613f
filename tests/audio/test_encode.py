"""Sound in the formats of files and of networks, as it is spoken."""

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.audio.encode import FORMATS, encoded, wav_header
from moshi_mlx.audio.files import read
from moshi_mlx.audio.save import PACKED, sound_writer, write_sound
from moshi_mlx.errors import AudioError, ConfigError

FRAME = 1920
LOSSLESS = ("wav", "flac")
FILES = [name for name in FORMATS if name != "pcm"]


def melody(seconds: float = 0.97) -> np.ndarray:
    """A tone that rises, so that a lost piece is noticed."""
    t = np.arange(int(24000 * seconds)) / 24000
    return (0.5 * np.sin(2 * np.pi * (300 + 200 * t) * t)).astype(np.float32)


def blocks(pcm: np.ndarray, size: int = FRAME) -> list[np.ndarray]:
    return [pcm[at : at + size] for at in range(0, len(pcm), size)]


def streamed(name: str, pcm: np.ndarray, size: int = FRAME) -> bytes:
    """What a listener gets that is sent each piece, without any correction."""
    encoder = FORMATS[name].make(24000)
    sent = b"".join(encoder.push(block) for block in blocks(pcm, size))
    return sent + encoder.finish()


def likeness(name: str, data: bytes, pcm: np.ndarray) -> float:
    """How alike the decoded sound and ``pcm`` are, 1 for the same; delays aside."""
    heard = read(data)[0]
    spectrum = np.fft.rfft(np.pad(heard, (0, len(pcm))))
    other = np.fft.rfft(np.pad(pcm, (0, len(heard))))
    alike = np.fft.irfft(spectrum * other.conj())
    norm = np.linalg.norm(heard) * np.linalg.norm(pcm)
    return float(alike.max() / norm)


@pytest.mark.parametrize("name", FILES)
def test_what_is_streamed_is_heard_to_its_end(name):
    pcm = melody()
    data = streamed(name, pcm)
    assert likeness(name, data, pcm) > 0.94
    heard = read(data)[0]
    assert len(pcm) <= len(heard) <= len(pcm) + 2 * FRAME + 2400
    assert np.abs(heard[len(pcm) - 480 :]).max() > 0.3, "the last 20 ms are missing"


@pytest.mark.parametrize("name", FILES)
def test_sound_cut_anywhere_is_the_same_sound(name):
    pcm = melody(0.5)
    whole = read(streamed(name, pcm, 12000))[0]
    torn = read(streamed(name, pcm, 777))[0]
    np.testing.assert_allclose(whole, torn, atol=0.02)


@pytest.mark.parametrize("name", ["mp3", "opus", "wav", "pcm", "aac"])
def test_the_first_frames_leave_at_once(name):
    encoder = FORMATS[name].make(24000)
    sent = [len(encoder.push(block)) for block in blocks(melody(0.4))]
    assert sum(sent[:2]) > 100, "nothing to play after 160 ms"
    assert all(sent[2:]), "sound was held back"


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_keep_every_sample(name):
    pcm = melody(0.3)
    for data in (streamed(name, pcm), encoded(pcm, name)):
        np.testing.assert_allclose(read(data)[0], pcm, atol=1 / 32000)


def test_a_streamed_wav_says_to_the_end_and_a_whole_one_how_much():
    pcm = melody(0.1)
    sizes = struct.unpack_from("<4xI32xI", streamed("wav", pcm))
    assert sizes == (0xFFFFFFFF, 0xFFFFFFFF)
    whole = encoded(pcm, "wav")
    assert struct.unpack_from("<4xI32xI", whole) == (len(whole) - 8, 2 * len(pcm))
    assert wav_header(2**31) == wav_header(None)


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_said_is_no_error(name):
    data = encoded(np.zeros(0, np.float32), name)
    assert data == wav_header(0) if name == "wav" else len(data) < 3000


@pytest.mark.parametrize("suffix", [*PACKED, ".wav", ".MP3"])
def test_a_files_name_chooses_its_format(tmp_path, suffix):
    path = tmp_path / f"said{suffix}"
    write_sound(path, melody())
    head = path.read_bytes()[:4]
    kinds = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".opus"}
    expected = {".ogg": ".opus", ".MP3": ".mp3"}.get(suffix, suffix)
    found = kinds.get(head, ".aac" if head[1] & 0xF6 == 0xF0 else ".mp3")
    assert found == expected
    assert likeness(suffix, path.read_bytes(), melody()) > 0.94


def test_a_flac_file_says_how_long_it_is(tmp_path):
    import soundfile

    write_sound(tmp_path / "a.flac", melody(0.5))
    assert soundfile.info(tmp_path / "a.flac").frames == 12000


def test_what_cannot_be_written_is_told(tmp_path, monkeypatch):
    for name in ("a.aiff", "a.oga", "a.mpeg", "a.au"):  # no WAV under their names
        with pytest.raises(AudioError, match="cannot be written: name it"):
            write_sound(tmp_path / name, melody())
    with pytest.raises(AudioError, match=r"a\.m4a cannot be written: name it \.wav, "):
        write_sound(tmp_path / "a.m4a", melody())
    with pytest.raises(AudioError, match="No such file or directory"):
        write_sound(tmp_path / "no" / "a.mp3", melody())
    with pytest.raises(AudioError, match="cannot hold sound of 5000 Hz"):
        write_sound(tmp_path / "a.mp3", melody(), 5000)
    with pytest.raises(AudioError, match="Opus cannot hold sound of 22050 Hz"):
        write_sound(tmp_path / "a.opus", melody(), 22050)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"extra 'av'.*moshi_mlx\[av\]"):
        write_sound(tmp_path / "a.aac", melody())
    assert not list(tmp_path.glob("a.m4a")) + list(tmp_path.glob("a.aac"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="not on this system")
@pytest.mark.parametrize("name", ["x.wav", "x.flac"])
def test_a_write_that_fails_is_named_also_when_the_file_is_closed(name, tmp_path):
    full = open("/dev/full", "wb")  # noqa: SIM115  # the writer closes it
    refused = pytest.raises(AudioError, match="cannot be written: No space left")
    with refused, sound_writer(tmp_path / name) as file:
        file._file.close()
        file._file = full
        for _ in range(100):
            file.write(melody())
