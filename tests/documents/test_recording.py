"""A recording is whole at every moment, even if the process is killed."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from datetime import datetime

import numpy as np
import pytest

from moshi_mlx import audio
from moshi_mlx.documents.recording import Recording, read_restarts, read_words
from moshi_mlx.documents.transcript import Timed, srt, txt, words
from moshi_mlx.errors import AudioError

TEXT = ["", " Hel", "lo.", "", " How", " are", ' "y', 'ou"?', " Größe", ""]


def frame(value: float) -> np.ndarray:
    return np.full(1920, value, np.float32)


def pieces(text: list[str]) -> list[Timed]:
    """What ``text``, one entry a frame, means in time."""
    return [Timed(t, 0.08 * i, 0.08 * (i + 1)) for i, t in enumerate(text) if t]


def check_files(path, text: list[str]) -> None:
    """All four files hold exactly the frames of ``text``."""
    pcm = audio.read(path, mono=False)
    assert pcm.shape == (2, 1920 * len(text))
    assert np.allclose(pcm[0, ::1920], 0.01 * np.arange(len(text)), atol=1e-4)
    assert np.allclose(pcm[1, ::1920], -0.01 * np.arange(len(text)), atol=1e-4)
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert about["model"] == "demo" and about["recording"] == path.name
    found = read_words(path.with_suffix(".json"))
    want = words(pieces(text))
    assert [w.text for w in found] == [f" {w.text}" for w in want]
    for got, expected in zip(found, want, strict=True):
        assert abs(got.start_s - expected.start_s) < 1e-3
        assert abs(got.end_s - expected.end_s) < 1e-3
    assert path.with_suffix(".srt").read_text(encoding="utf-8") == srt(pieces(text))
    assert path.with_suffix(".txt").read_text(encoding="utf-8") == txt(pieces(text))


def test_the_files_are_whole_after_every_frame(tmp_path):
    path = tmp_path / "talk.wav"
    with Recording(path, about={"model": "demo"}) as recording:
        for i, text in enumerate(TEXT):
            recording.add(frame(0.01 * i), frame(-0.01 * i), text)
            check_files(path, TEXT[: i + 1])
        assert recording.duration_s == pytest.approx(0.08 * len(TEXT))


def test_a_killed_conversation_keeps_all_it_had(tmp_path):
    path = tmp_path / "killed.wav"
    code = f"""
        import numpy as np, time
        from moshi_mlx.documents.recording import Recording
        recording = Recording({str(path)!r}, about={{"model": "demo"}})
        for i, text in enumerate({TEXT!r}):
            frame = np.full(1920, 0.01 * i, np.float32)
            recording.add(frame, -frame, text)
        print("added", flush=True)
        time.sleep(60)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"added\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    check_files(path, TEXT)


def test_a_side_that_is_missing_is_silence(tmp_path):
    with Recording(tmp_path / "x.wav") as recording:
        recording.add(frame(0.5), None)
        recording.add(None, frame(0.25))
        recording.add(None, None)
    pcm = audio.read(tmp_path / "x.wav", mono=False)
    heard = np.array([[0.5, 0, 0], [0, 0.25, 0]])
    assert np.allclose(pcm[:, ::1920], heard, atol=1e-4)


def test_text_may_belong_to_another_time(tmp_path):
    with Recording(tmp_path / "x.wav") as recording:
        recording.add(frame(0), frame(0), " late\nword", at_s=2.0)
    (word,) = read_words(tmp_path / "x.json")
    assert (word.text, word.start_s) == (" late word", 2.0)


def test_recordings_in_a_folder_never_overwrite_each_other(tmp_path):
    day = f"{datetime.now():%Y}"
    paths = []
    for _ in range(3):
        with Recording.in_folder(tmp_path / "new" / "folder") as recording:
            paths.append(recording.path)
    assert len(set(paths)) == 3
    assert all(path.exists() and day in path.name for path in paths)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AudioError, match=r"folder .*file.* cannot be made"):
        Recording.in_folder(tmp_path / "file" / "folder")


def test_a_restart_is_marked_in_every_file(tmp_path):
    path = tmp_path / "a.wav"
    with Recording(path, about={"model": "demo"}) as recording:
        recording.restart()  # before a word, and the files are whole all the time
        assert json.loads(path.with_suffix(".json").read_text())["restarts_s"] == [0.0]
        recording.add(frame(0.1), frame(0.1), " One")
        recording.add(frame(0.1), frame(0.1), " two")
        recording.restart()
        about = json.loads(path.with_suffix(".json").read_text())
        assert about["restarts_s"] == read_restarts(path.with_suffix(".json"))
        recording.add(frame(0.1), frame(0.1), "three")  # no space, yet a new word
        recording.add(frame(0.1), frame(0.1), " four")
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["restarts_s"] == [0.0, 0.16] and about["model"] == "demo"
    assert [w["text"] for w in about["words"]] == ["One", "two", "three", "four"]
    lines = path.with_suffix(".txt").read_text().splitlines()
    assert [line.partition("] ")[2] for line in lines] == [
        "[a new conversation]",
        "One two",
        "[a new conversation]",
        "three four",
    ]
    assert path.with_suffix(".srt").read_text().count("[a new conversation]") == 2


def test_a_recording_without_a_restart_says_nothing_of_it(tmp_path):
    with Recording(tmp_path / "a.wav") as recording:
        recording.add(frame(0.1), frame(0.1), " One")
    assert "restart" not in (tmp_path / "a.json").read_text()
    assert read_restarts(tmp_path / "a.json") == []
