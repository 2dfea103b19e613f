"""Every usual kind of sound file comes in whole, as it is or read in pieces."""

import io
import sys

import numpy as np
import pytest

from moshi_mlx import audio
from moshi_mlx.audio import foreign, long
from moshi_mlx.audio.long import LongSound, open_sound
from moshi_mlx.errors import AudioError
from tests.audio.made import (
    DATA,
    FOREIGN,
    KINDS,
    PACKED,
    PLAIN,
    RATE,
    SECONDS,
    loudest_hz,
    made,
    plain,
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_whole_and_without_a_warning(kind: str, caplog):
    pcm = audio.read(made(kind))
    assert pcm.dtype == np.float32 and len(pcm) == 1
    assert pcm.shape[1] / RATE == pytest.approx(SECONDS, abs=0.12)  # AAC pads
    assert loudest_hz(pcm[0]) == pytest.approx(440, abs=5)
    assert not caplog.records


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_in_pieces(kind: str, monkeypatch):
    whole = audio.read(made(kind))[0]
    monkeypatch.setattr(long, "LONG_S", 1.0)
    sound = open_sound(made(kind))
    assert isinstance(sound, LongSound)
    parts = [sound[at : at + 1920] for at in range(0, len(whole) + 1920, 1920)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=2e-6)
    assert sound.ended and len(sound) == len(whole)


@pytest.mark.parametrize("kind", ["wav", "ogg", "opus", "mp3", "aac", "m4a"])
def test_little_of_a_long_file_is_in_memory(kind: str, monkeypatch):
    monkeypatch.setattr(long, "LONG_S", 1.0)
    sound, held, at = open_sound(made(kind, seconds=45.0)), [], 0
    assert isinstance(sound, LongSound)
    while len(sound[at : at + 1920]):
        at += 1920
        held.append(sound.held)
    assert at > 44 * RATE and max(held) < 23 * RATE


def test_the_kind_is_what_is_in_the_file_whatever_its_name(tmp_path):
    for kind, name in (("flac", "a.wav"), ("ogg", "a.mp3"), ("m4a", "a.aac")):
        (tmp_path / name).write_bytes(made(kind))
        assert loudest_hz(audio.read(tmp_path / name)[0]) == pytest.approx(440, abs=5)


def surround(form: str, subtype: str, order: str) -> bytes:
    """Six channels; a tone of 200 Hz in the first, 400 in the second, and so on."""
    t = np.arange(RATE) / RATE
    speakers = {"L": 200, "R": 400, "C": 600, "F": 60, "l": 800, "r": 1000}
    tones = [0.3 * np.sin(2 * np.pi * speakers[name] * t) for name in order]
    return plain(np.stack(tones).astype(np.float32), form, subtype)


@pytest.mark.parametrize(
    "data",
    [
        surround("WAV", "PCM_16", "LRCFlr"),
        surround("FLAC", "PCM_16", "LRCFlr"),
        surround("OGG", "VORBIS", "LCRlrF"),
        surround("OGG", "OPUS", "LCRlrF"),
    ],
    ids=["wav", "flac", "vorbis", "opus"],
)
def test_surround_is_mixed_by_the_usual_weights(data: bytes):
    pcm = audio.read(data)[0]
    level = np.abs(np.fft.rfft(pcm[: RATE // 2])) / (RATE // 4) / 0.3
    weights = [level[hz // 2] for hz in (200, 400, 600, 60, 800, 1000)]
    left = 1 / (2 + 2**0.5 + 2**0.5)  # the weights add up to 1
    expected = [left, left, left * 2**0.5, 0, left / 2**0.5, left / 2**0.5]
    assert weights == pytest.approx(expected, abs=0.03)


def test_channels_that_are_no_loudspeakers_are_averaged():
    pcm = np.stack([np.full(2400, level, np.float32) for level in (0.4, 0.2, 0.0, 0.2)])
    assert audio.read(plain(pcm, "WAV", "FLOAT")) == pytest.approx(0.2)
    assert len(audio.read(plain(pcm, "WAV", "FLOAT"), mono=False)) == 4


@pytest.mark.parametrize("hz", [1, 3999, 384_001, 100_000_000])
def test_rates_that_no_recording_has_are_refused(hz: int):
    data = bytearray(made("wav"))
    data[24:28] = hz.to_bytes(4, "little")
    with pytest.raises(AudioError, match=f"sample rate of {hz} Hz .*4000 to 384000"):
        audio.read(bytes(data))
    with pytest.raises(AudioError, match=f"sample rate of {hz} Hz"):
        audio.Resampler(hz, RATE)


def test_the_usual_rates_are_not_refused():
    for hz in (4000, 8000, 11025, 44100, 192_000, 384_000):
        data = bytearray(made("wav"))
        data[24:28] = hz.to_bytes(4, "little")
        expected = round(SECONDS * RATE * RATE / hz)
        assert abs(audio.read(bytes(data)).shape[1] - expected) <= 1


@pytest.fixture
def _no_decoder(monkeypatch, tmp_path):
    """A machine with nothing for the kinds that need more than the package itself."""
    for kind in PACKED:
        made(kind)  # PyAV makes them
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.mark.parametrize("kind", [*PLAIN, *PACKED])
@pytest.mark.usefixtures("_no_decoder")
def test_the_usual_kinds_need_no_extra(kind: str):
    assert foreign.decoders() == []
    assert audio.read(made(kind)).shape[1] / RATE == pytest.approx(SECONDS, abs=0.12)


@pytest.mark.usefixtures("_no_decoder")
def test_without_a_decoder_the_commands_to_type_are_named(tmp_path):
    path = tmp_path / "my voice.m4a"
    path.write_bytes((DATA / "tone.m4a").read_bytes())
    with pytest.raises(AudioError) as told:
        audio.read(path)
    wav = tmp_path / "my voice.wav"
    sentence = f"{path} is an MPEG-4 file (m4a, mp4, mov), for which a decoder"
    assert str(told.value).startswith(sentence)
    assert "pip install 'moshi_mlx[av]'" in str(told.value)
    assert str(told.value).endswith(f": ffmpeg -i '{path}' '{wav}'")  # ready to copy


def fake(folder, name: str, code: str, monkeypatch) -> None:
    """A program ``name`` that runs ``code``, the only one on the path."""
    folder.mkdir()
    (folder / name).write_text(f"#!{sys.executable}\nimport sys\n{code}")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


FFMPEG = """
import io, soundfile
source = sys.argv[sys.argv.index("-i") + 1]
assert source.startswith("file:/"), source
assert sys.argv[-3:] == ["-f", "au", "pipe:1"], sys.argv
if b"damaged" in open(source[5:], "rb").read():
    sys.exit("x.m4a: moov atom not found")
out = io.BytesIO()
pcm, rate = soundfile.read({wav!r})
soundfile.write(out, pcm, rate, format="AU", subtype="FLOAT", endian="BIG")
data = bytearray(out.getvalue())
data[8:12] = b"\\xff" * 4  # a pipe cannot be gone back in
sys.stdout.buffer.write(data)
"""
AFCONVERT = """
import soundfile
form, data, source, out = sys.argv[2], sys.argv[4], sys.argv[5], sys.argv[6]
assert sys.argv[1::2][:2] == ["-f", "-d"] and (form, data) == ("caff", "LEI16")
if b"damaged" in open(source, "rb").read():
    sys.exit("Error: ExtAudioFileOpenURL failed ('typ?')")
soundfile.write(out, *soundfile.read({wav!r}), format="CAF", subtype="PCM_16")
"""


@pytest.mark.parametrize("name, code", [("ffmpeg", FFMPEG), ("afconvert", AFCONVERT)])
def test_an_installed_program_decodes_other_kinds(
    name: str, code: str, tmp_path, monkeypatch
):
    made("m4a"), monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.wav").write_bytes(made("wav"))
    wav = str(tmp_path / "a.wav")
    fake(tmp_path / "bin", name, code.replace("{wav!r}", repr(wav)), monkeypatch)
    (tmp_path / "-x: y.m4a").write_bytes(made("m4a"))
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(audio.read("-x: y.m4a"), audio.read(made("wav")))
    monkeypatch.setattr(long, "LONG_S", 1.0)
    sound = open_sound("-x: y.m4a")
    assert isinstance(sound, LongSound)
    np.testing.assert_array_equal(sound[: 3 * RATE], audio.read(made("wav"))[0])
    (tmp_path / "b.m4a").write_bytes(made("m4a") + b"damaged")
    with pytest.raises(AudioError, match=rf"b.m4a is not a sound .*{name}: "):
        audio.read(tmp_path / "b.m4a")


def test_a_playlist_is_not_followed(tmp_path):
    (tmp_path / "secret.wav").write_bytes(made("wav"))
    playlist = f"#EXTM3U\n#EXTINF:3,\nfile://{tmp_path}/secret.wav\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m4a").write_text(playlist)
    with pytest.raises(AudioError, match=r"list\.m4a is not a sound file"):
        audio.read(tmp_path / "list.m4a")


def test_an_open_file_and_bytes_are_taken(tmp_path):
    (tmp_path / "a.ogg").write_bytes(made("ogg"))
    expected = audio.read(tmp_path / "a.ogg")
    data = made("ogg")
    for sound in (data, bytearray(data), memoryview(data), io.BytesIO(data)):
        np.testing.assert_array_equal(audio.read(sound), expected)
    with (tmp_path / "a.ogg").open("rb") as file:
        first = next(audio.frames(file))
    np.testing.assert_array_equal(first, expected[0, :1920])
    with (tmp_path / "a.ogg").open() as text, pytest.raises(AudioError, match="'rb'"):
        audio.read(text)  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="the sound is empty"):
        audio.read(b"")


def test_every_foreign_kind_is_named_for_what_it_is(monkeypatch, tmp_path):
    files = [made(kind) for kind in FOREIGN if kind != "ac3"]
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    for data in files:
        with pytest.raises(AudioError, match="for which a decoder is missing"):
            audio.read(data)
