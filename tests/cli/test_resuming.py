"""`--say-first`, `--save-state` and `--resume`."""

import json
import stat
from pathlib import Path

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.audio import write_wav
from moshi_mlx.cli.main import main
from moshi_mlx.engines.duplex.greeting import MAX_LETTERS, greeting_tokens
from moshi_mlx.errors import ConfigError
from tests.persona import personaplex_folder


@pytest.fixture
def silence(tmp_path: Path) -> Path:
    path = tmp_path / "silence.wav"
    write_wav(path, np.zeros(20 * 1920, np.float32))
    return path


def respond(capsys, sound: Path, *options: str) -> dict:
    common = ["--model", "demo", "--json", "--tail", "0", "--seed", "1", "--temp", "0"]
    assert main(["respond", str(sound), *common, *options]) == 0
    return json.loads(capsys.readouterr().out)


def test_moshi_begins_with_the_words_that_it_was_given(capsys, silence):
    said = respond(capsys, silence, "--say-first", "good morning.")["text"]
    assert said.strip().startswith("good morning.")
    assert not respond(capsys, silence)["text"].strip().startswith("good morning.")


def test_words_are_as_far_apart_as_speech(tmp_path):
    moshi = moshi_mlx.load("demo")
    tokens = greeting_tokens(moshi.tokenizer, moshi.lm.cfg, "good morning to you")
    assert 15 <= len(tokens) <= 20, "1.2 to 1.6 seconds"
    padding, end = moshi.lm.cfg.text_padding_token, moshi.lm.cfg.text_end_padding_token
    assert tokens[0] == tokens[-1] == end and padding in tokens
    spoken = [t for t in tokens if t not in (padding, end)]
    assert spoken == moshi.tokenizer.encode("good morning to you")
    with pytest.raises(ConfigError, match=f"use up to {MAX_LETTERS}"):
        moshi.session(say_first="x" * (MAX_LETTERS + 1))


def test_a_persona_may_speak_first(tmp_path):
    moshi = moshi_mlx.load(personaplex_folder(tmp_path / "tiny"))
    session = moshi.session(persona="You teach.", say_first="good morning")
    noise = np.random.default_rng(0).normal(0, 0.1, (24, 1920))  # no interruption
    text = "".join(session.step(frame).text for frame in noise.astype(np.float32))
    wanted = "".join(
        moshi.tokenizer.id_to_piece(token).replace("▁", " ")
        for token in moshi.tokenizer.encode("good morning")
    )
    assert text.strip().startswith(wanted.strip()[:4])


def test_a_conversation_goes_on_from_its_file(capsys, silence, tmp_path):
    kept = tmp_path / "talk.safetensors"
    greeting = ["--say-first", "good morning to you."]
    first = respond(capsys, silence, *greeting, "--save-state", str(kept))
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    long = tmp_path / "long.wav"
    write_wav(long, np.zeros(40 * 1920, np.float32))
    whole = respond(capsys, long, *greeting)
    rest = respond(capsys, silence, "--resume", str(kept))
    texts = [one["text"].split() for one in (first, rest, whole)]
    assert texts[0] + texts[1] == texts[2]


@pytest.mark.parametrize("command", ["respond", "chat"])
def test_a_file_that_is_none_is_told_before_a_model_is_loaded(
    capsys, silence, tmp_path, command
):
    asked = [command, "--model", "no/such"]
    asked += [str(silence)] if command == "respond" else []
    assert main([*asked, "--resume", str(tmp_path / "none")]) == 1
    assert "there is no snapshot" in capsys.readouterr().err
    assert main([*asked, "--save-state", str(tmp_path / "no" / "file")]) == 1
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["respond", "chat"])
def test_options_that_do_not_go_together_are_told_before_a_model_is_loaded(
    capsys, silence, tmp_path, command
):
    asked = [command, "--model", "no/such"]
    asked += [str(silence)] if command == "respond" else []
    kept = tmp_path / "talk.safetensors"
    for option in ("--save-state", "--resume"):
        assert main([*asked, "--codec", "rust", option, str(kept)]) == 1
        assert "the rust codec cannot tell its state" in capsys.readouterr().err
    assert main([*asked, "--say-first", "hello", "--resume", str(kept)]) == 1
    assert "--say-first begins a new conversation" in capsys.readouterr().err
    assert main([*asked, "--save-state", str(tmp_path)]) == 1
    assert "is a folder: name a file in it" in capsys.readouterr().err
