"""`moshi-mlx codec`: files of sound to files of codes, and back."""

import contextlib
import json
import os
import threading
from zipfile import ZipFile

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.audio import read
from moshi_mlx.audio.save import write_sound
from moshi_mlx.cli.main import main
from moshi_mlx.engines.codec import files as code_files
from moshi_mlx.engines.codec.files import read_codes
from moshi_mlx.errors import ConfigError
from tests.tiny import DATA

MIMI = DATA / "transformers" / "mimi"
CODEC = ["--model", str(MIMI)]


@pytest.fixture
def sound(tmp_path):
    """A file whose last frame is not full."""
    path = tmp_path / "speech.wav"
    pcm = np.array(mx.load(str(MIMI / "io.safetensors"))["pcm"][0, 0])  # type: ignore[index]
    write_sound(path, pcm[:20_000])
    return path


@pytest.mark.parametrize("form", ["npz", "safetensors"])
def test_codes_and_sound_are_those_of_the_library(tmp_path, sound, form, capsys):
    out = tmp_path / "codes"
    options = ["--out-folder", str(out), "--format", form, *CODEC]
    assert main(["codec", "encode", str(sound), *options]) == 0
    assert "4 codebooks, 11 frames" in capsys.readouterr().out
    held, codec = read_codes(out / f"speech.{form}"), moshi_mlx.load_codec(MIMI)
    np.testing.assert_array_equal(held.codes, codec.encode(sound))
    assert (held.sample_rate, held.samples) == (24_000, 20_000)
    assert main(["codec", "decode", str(out / f"speech.{form}"), *CODEC]) == 0
    expected = codec.decode(held.codes)[:20_000].clip(-1, 1)
    np.testing.assert_allclose(read(out / "speech.wav")[0], expected, atol=2 / 2**15)


def test_fewer_codebooks_are_kept_and_used(tmp_path, sound, capsys):
    assert main(["codec", "encode", str(sound), "--codebooks", "2", *CODEC]) == 0
    path = tmp_path / "speech.npz"
    assert read_codes(path).codes.shape == (2, 11)
    options = ["--codebooks", "1", "--json", "--out-folder", str(tmp_path / "out")]
    capsys.readouterr()
    assert main(["codec", "decode", str(path), *options, *CODEC]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["codebooks"], told["frames"]) == (1, 11)
    expected = moshi_mlx.load_codec(MIMI).decode(read_codes(path).codes[:1])[:20_000]
    heard = read(tmp_path / "out" / "speech.wav")[0]
    np.testing.assert_allclose(heard, expected.clip(-1, 1), atol=2 / 2**15)


def test_pipes_and_standard_input_are_encoded(tmp_path, sound, monkeypatch, capsys):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(sound.read_bytes()))
    writer.start()
    standard = sound.open()
    monkeypatch.setattr("sys.stdin", standard)
    out = ["--out-folder", str(tmp_path / "out")]
    assert main(["codec", "encode", str(pipe), "-", *out, *CODEC]) == 0
    writer.join()
    standard.close()
    one, other = (read_codes(tmp_path / "out" / f"{n}.npz") for n in ("pipe", "stdin"))
    np.testing.assert_array_equal(one.codes, other.codes)
    assert one.codes.shape == (4, 11)
    assert main(["codec", "decode", "-", *CODEC]) == 1
    assert "there is no file '-'" in capsys.readouterr().err


def test_files_of_the_transformers_library_are_decoded(tmp_path):
    io = mx.load(str(MIMI / "io.safetensors"))
    path = tmp_path / "theirs.npz"
    np.savez(path, audio_codes=np.array(io["codes"]).astype(np.int64))  # type: ignore[index]
    assert main(["codec", "decode", str(path), *CODEC]) == 0
    assert read(tmp_path / "theirs.wav").shape == (1, 25 * 1920)


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"x": np.zeros(3)}, "no array named codes"),
        ({"codes": np.zeros((4, 3))}, "holds float64"),
        ({"codes": np.zeros((2, 4, 3), int)}, r"\[2, 4, 3\]"),
        ({"codes": np.zeros((4, 0), int)}, r"\[4, 0\]"),
        ({"codes": np.array([{}], object)}, "is no file of codes"),
    ],
)
def test_files_that_hold_no_codes_are_refused_in_a_sentence(tmp_path, arrays, words):
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)
    with pytest.raises(ConfigError, match=words):
        read_codes(path)


def test_a_small_file_does_not_unpack_into_gigabytes(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, codes=np.zeros((8, 100_000), np.int32))
    assert path.stat().st_size < 10_000 and read_codes(path).codes.shape[1] == 100_000
    monkeypatch.setattr(code_files, "MOST_BYTES", 1 << 20)
    with pytest.raises(ConfigError, match="its arrays take more than 1 MiB"):
        read_codes(path)


def test_a_damaged_array_is_refused_in_a_sentence_wherever_the_damage_is(tmp_path):
    path, random = tmp_path / "x.npz", np.random.default_rng(0)
    np.savez_compressed(path, codes=random.integers(0, 2048, (8, 50)))
    whole = path.read_bytes()
    for at in random.integers(0, len(whole), 200).tolist():
        damaged = bytearray(whole)
        damaged[at] ^= int(random.integers(1, 256))
        path.write_bytes(damaged)
        with contextlib.suppress(ConfigError):
            read_codes(path)


def test_a_header_that_is_no_python_is_refused_in_a_sentence(tmp_path):
    header = b"{'descr': '<i4', 'fortran_order': False, 'shape': (8, 10"
    array = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header
    with ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("codes.npy", array)
    with pytest.raises(ConfigError, match="is no file of codes"):
        read_codes(tmp_path / "x.npz")


@pytest.mark.parametrize("name", ["x.npz", "x.safetensors"])
@pytest.mark.parametrize("content", [b"PK\x03\x04 no", b"hello", b""])
def test_damaged_files_are_refused_in_a_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match="is no file of codes"):
        read_codes(tmp_path / name)


def test_what_does_not_fit_is_said_before_and_nothing_is_written(
    tmp_path, sound, capsys
):
    np.savez(tmp_path / "big.npz", codes=np.full((4, 3), 99))
    np.savez(tmp_path / "other.npz", codes=np.zeros((4, 3), int), frame_rate=50)
    (tmp_path / "codes.txt").write_text("1 2 3")
    for arguments, words in [
        (["encode", str(tmp_path / "none.wav")], "there is no file"),
        (["encode", str(sound), "--codebooks", "5"], "has 4"),
        (["encode", str(tmp_path / "codes.txt")], "codes.txt"),
        (["decode", str(tmp_path / "codes.txt")], "must end in .npz or .safetensors"),
        (["decode", str(tmp_path / "big.npz")], "codes from 99 to 99"),
        (["decode", str(tmp_path / "other.npz")], "50 frames a second"),
        (["decode", str(tmp_path / "big.npz"), "--sound", "txt"], "big.txt"),
    ]:
        assert main(["codec", *arguments, *CODEC]) == 1
        error = capsys.readouterr().err
        assert words in error and "Traceback" not in error
    assert not list(tmp_path.glob("big.wav")) and not list(tmp_path.glob("*.part"))


def test_files_that_would_become_one_are_refused(tmp_path, sound, capsys):
    other = tmp_path / "speech.flac"
    other.write_bytes(sound.read_bytes())
    assert main(["codec", "encode", str(sound), str(other), *CODEC]) == 1
    assert "give the result of" in capsys.readouterr().err


def test_a_single_array_is_no_file_of_codes(tmp_path):
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, np.zeros((4, 3), int))
    with pytest.raises(ConfigError, match="a single array"):
        read_codes(tmp_path / "x.npz")
    (tmp_path / "x.npz").write_bytes(b"PK")
    with pytest.raises(ConfigError, match=r"no file of codes: it is damaged\."):
        read_codes(tmp_path / "x.npz")
