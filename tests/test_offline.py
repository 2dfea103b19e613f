"""NVIDIA's offline script: its options, and files as long as the input."""

import json
import shutil

import numpy as np

from moshi_mlx.audio import read, write_wav
from moshi_mlx.offline import main
from tests.persona import personaplex_folder


def test_it_answers_a_file_as_nvidia_s_script_does(tmp_path, capsys):
    model = personaplex_folder(tmp_path / "tiny")
    rng = np.random.default_rng(0)
    voices = tmp_path / "voices"
    voices.mkdir()
    write_wav(voices / "me.wav", (0.1 * rng.standard_normal(30_000)).astype(np.float32))
    shutil.copy(voices / "me.wav", tmp_path / "in.wav")
    asked = ["--input-wav", "in.wav", "--output-wav", "out.wav"]
    asked += ["--output-text", "out.json", "--voice-prompt", "me.wav"]
    asked = [str(tmp_path / a) if a.startswith(("in.", "out.")) else a for a in asked]
    asked += ["--text-prompt", "You teach.", "--greedy", "--device", "cuda"]
    asked += ["--voice-prompt-dir", str(voices), "--hf-repo", str(model)]
    assert main(asked) == 0
    assert read(tmp_path / "out.wav").shape == (1, 30_000)
    pieces = json.loads((tmp_path / "out.json").read_text())
    assert len(pieces) == 16 and all(isinstance(piece, str) for piece in pieces)
    assert main([*asked, "--voice-prompt", "you.wav"]) == 1
    assert "there is no voice file" in capsys.readouterr().err
