"""Kyutai's scripts for its Rust server, unchanged, against ours.

They come from kyutai-labs/delayed-streams-modeling (run at f6074cb). Where its checkout
is, scripts/test_clients says.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.audio.encode import encoded
from moshi_mlx.audio.files import read
from tests.listening import noise
from tests.serve.small import small

pytestmark = pytest.mark.clients


@pytest.fixture
def run(serve, tmp_path):
    """Run a script of the checkout against a server; returns what it prints."""
    server = serve(speech=small())
    (tmp_path / "sounddevice.py").touch()  # imported, and not used

    def script(name: str, *args: object) -> str:
        checkout = Path(os.environ["MOSHI_CLIENTS"])
        [path] = checkout.rglob(name)
        command = [sys.executable, str(path), *map(str, args)]
        done = subprocess.run(
            [*command, "--url", f"ws://127.0.0.1:{server.port}"],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return script


def test_a_file_is_transcribed_with_the_times_of_its_words(run, tmp_path):
    sound = tmp_path / "a.wav"
    sound.write_bytes(encoded(noise(1.6), "wav"))
    told = run("stt_from_file_rust_server.py", sound, "--rtf", 1000)
    assert " - " in told and len(told.split()) > 5


def test_a_text_is_spoken_into_a_file(run, tmp_path):
    text, sound = tmp_path / "in.txt", tmp_path / "out.wav"
    text.write_text("hello there how are you")
    run("tts_rust_server.py", text, sound)
    pcm = read(sound)[0]  # at 24 kHz
    assert len(pcm) > 24000 and np.abs(pcm).max() > 0
