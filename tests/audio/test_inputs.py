"""What is no file with a place of its own is kept in one while it is read."""

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx import audio
from moshi_mlx.audio import inputs
from moshi_mlx.audio.inputs import PREFIX, Input, exists, name_of
from moshi_mlx.errors import AudioError
from tests.audio.made import made


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory, monkeypatch) -> Path:
    """The folder of temporary files, of which none may stay."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_pipe_is_read_to_its_end_and_nothing_is_left(tmp_path, temporary):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(
        target=(tmp_path / "pipe").write_bytes, args=[made("mp3")]
    )
    writer.start()
    np.testing.assert_array_equal(
        audio.read(tmp_path / "pipe"), audio.read(made("mp3"))
    )
    writer.join()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/{fd}"])
def test_standard_input_and_what_a_shell_makes_of_brackets(name: str):
    code = (
        "import sys; from moshi_mlx import audio; "
        "print(audio.read(sys.argv[1]).shape, flush=True)"
    )
    read, write = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-c", code, name.format(fd=read)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[read],
    )
    os.close(read)
    assert child.stdin is not None and child.stdout is not None
    with os.fdopen(write, "wb") if "{" in name else child.stdin as pipe:
        pipe.write(made("m4a"))
    child.stdin.close()
    assert child.stdout.read().decode() == f"{audio.read(made('m4a')).shape}\n"
    child.stdout.close()
    assert child.wait() == 0


def test_a_keyboard_an_empty_pipe_and_a_device_are_named(monkeypatch):
    keyboard = type("Keyboard", (), {"isatty": lambda _: True})()
    monkeypatch.setattr(sys, "stdin", keyboard)
    with pytest.raises(AudioError, match="is the keyboard: pipe a sound file"):
        audio.read("-")
    with pytest.raises(AudioError, match="/dev/zero is a device: name a sound file"):
        audio.read("/dev/zero")
    with pytest.raises(AudioError, match="standard input is empty"):
        monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
        audio.read("-")
    sys.stdin.close()


def test_a_disk_without_room_is_named_and_left_clean(monkeypatch, temporary):
    monkeypatch.setattr(inputs, "SPARE_DISK", 2**62)
    with pytest.raises(AudioError, match=r"no space left.*: set TMPDIR to a folder"):
        audio.read(made("wav"))
    assert list(temporary.iterdir()) == []


def test_without_a_temporary_folder_the_way_out_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(AudioError, match="set TMPDIR to a folder with room"):
        audio.read(made("wav"))


def test_what_a_killed_process_left_is_removed_by_the_next(temporary):
    code = (
        "import os, signal, sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from moshi_mlx.audio.inputs import Input\n"
        "kept = Input(b'sound'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(temporary)])
    (left,) = temporary.iterdir()
    (temporary / f"{PREFIX}mine").write_text("of somebody else")
    mine = Input(made("wav"))
    assert not left.exists() and mine.path.exists()
    again = Input(made("wav"))
    assert mine.path.exists()
    mine.close(), again.close()
    assert [p.name for p in temporary.iterdir()] == [f"{PREFIX}mine"]


def test_a_name_that_is_no_unicode_is_read(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.mp3"
    with open(path, "wb") as file:
        file.write(made("mp3"))
    name = os.fsdecode(path)
    np.testing.assert_array_equal(audio.read(name), audio.read(made("mp3")))


def test_names_that_no_file_can_have_are_no_files():
    for name in ("a\0b", "a" * 5000, "\ud800"):
        assert not exists(Path(name))
        with pytest.raises(AudioError, match=r"there is no file|cannot be opened"):
            audio.read(name)


def test_texts_of_a_pipe_lie_in_the_working_folder():
    assert name_of("-") == name_of("/dev/fd/63") == Path("stdin")
    for name in ("talk/a.wav", "talk/caf\udce9.mp3"):  # no UTF-8, but a place
        assert name_of(name) == Path(name)


def test_a_reader_that_is_dropped_keeps_no_file(temporary):
    source = Input(made("wav"))
    assert source.path.name.startswith(PREFIX) and source.path.exists()
    del source
    assert list(temporary.iterdir()) == []
