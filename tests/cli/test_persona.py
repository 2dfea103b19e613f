"""`--persona` and `--voice`, and the voices that PersonaPlex comes with."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.audio import write_wav
from moshi_mlx.cli.main import main
from tests.persona import personaplex_folder
from tests.tiny import DATA


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = personaplex_folder(tmp_path_factory.mktemp("cli") / "tiny")
    (folder / "voices").mkdir()
    shutil.copy(DATA / "personaplex" / "voice.pt", folder / "voices" / "NATF2.pt")
    return folder


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "me.wav"
    rng = np.random.default_rng(0)
    write_wav(path, (0.1 * rng.standard_normal(30_000)).astype(np.float32))
    return path


def respond(capsys, model: Path, question: Path, *options: str) -> dict:
    common = ["--json", "--tail", "0", "--seed", "1", "--temp", "0"]
    asked = ["respond", str(question), "--model", str(model), *common, *options]
    assert main(asked) == 0
    return json.loads(capsys.readouterr().out)


def test_persona_and_voice_change_the_answer(capsys, model, recording):
    found = [
        respond(capsys, model, recording, *options)
        for options in (
            (),
            ("--persona", "You teach."),
            ("--persona", "You teach.", "--voice", str(recording)),
        )
    ]
    assert len({one["text"] for one in found}) == 3
    assert len({one["frames"] for one in found}) == 1


def test_a_model_without_personas_says_what_to_use(capsys, recording):
    asked = ["respond", str(recording), "--model", "demo", "--persona", "You teach."]
    assert main(asked) == 1
    assert "takes no persona or voice: use one like nvidia" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["respond", "chat", "serve"])
def test_a_file_that_is_no_voice_is_told_before_a_model_is_loaded(
    capsys, recording, tmp_path, command
):
    asked = [command, "--model", "no/such"]
    asked += [str(recording)] if command == "respond" else []
    (tmp_path / "a.pt").write_bytes(b"PK\x03\x04")
    for voice, words in (("none.wav", "no voice file"), ("a.pt", "torch.save wrote")):
        assert main([*asked, "--voice", str(tmp_path / voice)]) == 1
        assert words in " ".join(capsys.readouterr().err.split())


def test_voices_are_listed_and_exported(capsys, model, recording, tmp_path):
    assert main(["voices", "--model", str(model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["voices"] == ["NATF2"]
    assert main(["voices", "--model", str(model), "male"]) == 1
    assert "comes with no voice like 'male': it has NATF2." in capsys.readouterr().err
    out = tmp_path / "me.safetensors"
    asked = ["voices", "--model", str(model), "--export", str(recording), str(out)]
    assert main(asked) == 0
    nowhere = [*asked[:-1], str(tmp_path / "no" / "me.safetensors")]
    assert main(nowhere) == 1
    assert "there is no folder" in capsys.readouterr().err
    answers = [
        respond(capsys, model, recording, "--voice", str(file))["text"]
        for file in (recording, out)
    ]
    assert answers[0] == answers[1]
    assert main(["voices", "--model", str(model), "--play", "NATF2"]) == 1
    assert "holds what a model reads, and no sound" in capsys.readouterr().err


def test_a_voice_that_is_sound_is_played(model, recording, tmp_path, monkeypatch):
    played: list[np.ndarray] = []

    class Player:
        def __init__(self, speaker: str | None) -> None:
            assert speaker is None

        def __enter__(self) -> "Player":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def play(self, pcm: np.ndarray) -> None:
            played.append(pcm)

    monkeypatch.setattr("moshi_mlx.live.devices.Player", Player)
    voices, out = ["voices", "--model", str(model)], tmp_path / "me.safetensors"
    assert main([*voices, "--export", str(recording), str(out)]) == 0
    for voice in (recording, out):
        played.clear()
        assert main([*voices, "--play", str(voice)]) == 0
        pcm = np.concatenate(played)
        assert len(pcm) in (30_000, 16 * 1920) and np.abs(pcm).max() > 0.001
    monkeypatch.setattr("moshi_mlx.cli.persona_voices.BASE_REPO", str(model))
    played.clear()
    assert main(["voices", "--play", str(out)]) == 0
    assert np.array_equal(np.concatenate(played), pcm), "without a gated model's name"


def test_quantised_without_a_word_its_depth_transformer_keeps_8_bits(
    capsys, model, recording, tmp_path
):
    out = tmp_path / "small"
    assert main(["quantize", str(model), str(out), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert written["recipe"] == "q4d8"
    assert respond(capsys, out, recording, "--persona", "You teach.")["frames"]
    assert main(["info", str(out)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "12 steps per frame (6 are taken: the others foresee your side)" in told


def test_the_quality_report_shows_why_its_depth_transformer_keeps_8_bits(
    capsys, model, recording, tmp_path
):
    report = ["--report", str(tmp_path / "q.html"), "--recording", str(recording)]
    asked = ["quantize", str(model), "--json", *report]
    assert main(asked) == 0
    rows = json.loads(capsys.readouterr().out)["quality"]["recipes"]
    assert [row["recipe"] for row in rows] == ["q4d8", "q4"]
    kept, garbled = (row["audio_kl"] for row in rows)
    assert garbled > 5 * kept
    assert "q4d8" in (tmp_path / "q.html").read_text()
    assert main([*asked, "--compare", "q4,q8"]) == 0
    rows = json.loads(capsys.readouterr().out)["quality"]["recipes"]
    assert [row["recipe"] for row in rows] == ["q4", "q8"], "those that were named"
