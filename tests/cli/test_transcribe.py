"""`moshi-mlx transcribe`: texts, files of words, refusals."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from moshi_mlx.audio.files import write_wav
from moshi_mlx.cli.transcribe import heard
from moshi_mlx.engines.load import load_stt
from moshi_mlx.engines.stt import Transcript
from moshi_mlx.engines.stt.rows import Rows
from moshi_mlx.errors import ConfigError
from tests.family import listening, run, with_codec
from tests.listening import CONFIG, echo, noise
from tests.questions import QUESTIONS
from tests.speech import TTS

DEMO_WAV = str(QUESTIONS[0].path)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return listening(tmp_path_factory.mktemp("stt"))


@pytest.fixture
def sounds(tmp_path) -> list[Path]:
    paths = []
    for i, seconds in enumerate((2.0, 0.03, 1.2)):
        paths.append(tmp_path / f"{i}.wav")
        write_wav(paths[-1], noise(seconds, seed=i))
    return paths


def test_one_file_is_printed_as_it_is_heard(model, sounds, capsys):
    assert run("transcribe", sounds[0], "--model", model) == 0
    expected = load_stt(model).transcribe(sounds[0])
    printed = capsys.readouterr().out
    assert len(expected.words) > 3
    assert printed.split() == expected.text.split()


def test_all_forms_for_several_files(model, sounds, tmp_path, capsys):
    forms = ("txt", "json", "srt", "vtt")
    args = [arg for form in forms for arg in ("-f", form)]
    folder = tmp_path / "texts"
    code = run("transcribe", *sounds, "--model", model, *args, "--out-folder", folder)
    assert code == 0
    stt = load_stt(model)
    for path in sounds:
        expected = stt.transcribe(path)
        text = (folder / f"{path.stem}.txt").read_text()
        assert text.strip() == expected.text
        words = json.loads((folder / f"{path.stem}.json").read_text())
        assert words == [vars(word) for word in expected.words]
        assert (folder / f"{path.stem}.vtt").read_text().startswith("WEBVTT")
    assert "-->" in (folder / "0.srt").read_text()
    assert capsys.readouterr().out == ""


def test_subtitles_are_laid_out_as_asked_for(model, sounds, tmp_path):
    args = ("transcribe", sounds[0], "--model", model, "-f", "srt", "--out-folder")
    assert run(*args, tmp_path, "--line-width", 12, "--lines", 1) == 0
    lines = (tmp_path / "0.srt").read_text().splitlines()
    texts = [line for line in lines if line and not line[0].isdigit()]
    assert texts and all(len(t) <= 12 or " " not in t for t in texts)
    assert all(not a or not b for a, b in zip(lines[2::4], lines[3::4], strict=False))


@pytest.mark.parametrize("how", ["-", "/dev/stdin", "pipe"])
def test_a_pipe_is_heard_as_a_file_is(how, model, sounds, tmp_path, capfd):
    source, texts = how, tmp_path / "texts"
    if how == "pipe":
        source = str(tmp_path / "talk")
        os.mkfifo(source)
    args = [str(a) for a in ("--model", model, "-f", "txt", "--out-folder", texts)]
    code = "import sys; from moshi_mlx.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "transcribe", source, *args]
    child = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert child.stdin is not None
    with open(source, "wb") if how == "pipe" else child.stdin as pipe:
        pipe.write(sounds[0].read_bytes())
    child.stdin.close()
    assert child.wait() == 0
    (text,) = texts.iterdir()
    assert text.name == ("talk.txt" if how == "pipe" else "stdin.txt")
    expected = load_stt(model).transcribe(sounds[0]).text
    assert text.read_text() == f"{expected}\n"


def test_json_has_words_and_turns(model, sounds, capsys):
    assert run("transcribe", *sounds, "--model", model, "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(item["input"]) for item in found] == sounds
    assert found[0]["duration_s"] == 2.0
    words = [word["text"] for word in found[0]["words"]]
    assert found[0]["text"] == " ".join(words)
    assert " ".join(turn["text"] for turn in found[0]["turns"]) == found[0]["text"]


def test_batches_and_options_change_no_words(model, sounds, capsys):
    texts = []
    for more in ((), ("--batch-size", 1), ("--no-refresh",)):
        assert run("transcribe", *sounds, "--model", model, "--json", *more) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] == texts[2]


def test_what_cannot_be_read_leaves_the_others(model, sounds, tmp_path, capsys):
    (tmp_path / "text.wav").write_text("no sound")
    files = [sounds[0], tmp_path / "text.wav", tmp_path / "gone.wav"]
    assert run("transcribe", *files, "--model", model, "--json") == 1
    output = capsys.readouterr()
    assert len(output.out.splitlines()) == 1
    assert "text.wav" in output.err and "gone.wav" in output.err


def test_silence_is_said_to_hold_no_words(tmp_path, capsys):
    config = {**CONFIG, "model_type": "stt", "stt_config": {"audio_delay_seconds": 0}}
    folder = with_codec(tmp_path / "deaf", config)
    weights = dict(tree_flatten(echo().parameters()))
    deaf = {name: mx.zeros(weight.shape) for name, weight in weights.items()}
    mx.save_safetensors(str(folder / "model.safetensors"), deaf)
    write_wav(tmp_path / "s.wav", np.zeros(24000, np.float32))
    assert run("transcribe", tmp_path / "s.wav", "--model", folder) == 0
    assert "no words were heard" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args, sentence",
    [
        ((), "use --mic"),
        (("a.wav", "--mic"), "use --mic"),
        (("a.wav", "--mic"), "not both"),
        (("a.wav", "--out-folder", "texts"), "add a format, such as -f txt"),
        (("a.wav", "-f", "doc"), "'doc' is not a format"),
        (("a.wav", "--prompt-file", "b.wav"), "needs its text"),
        (("a.wav", "--prompt", "hello", "--prompt-file", "b.wav"), "no file b.wav"),
        (("a.wav", "--model", "no/model/x"), "no file a.wav"),  # before the model
        (
            (DEMO_WAV, "--model", str(TTS)),
            "a tts model and does not transcribe speech",
        ),
    ],
)
def test_refusals_are_one_sentence(capsys, args, sentence):
    assert run("transcribe", *args) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "Error" in line]
    assert len(errors) == 1 and sentence in errors[0]


def test_texts_do_not_overwrite_each_other(model, tmp_path, capsys):
    sounds = [tmp_path / "a" / "talk.wav", tmp_path / "b" / "talk.wav"]
    for path in sounds:
        path.parent.mkdir()
        write_wav(path, noise(0.5))
    (tmp_path / "a" / "talk.flac").write_bytes(sounds[0].read_bytes())
    (tmp_path / "a" / "one.wav").write_bytes(sounds[0].read_bytes())
    sounds += [tmp_path / "a" / "talk.flac", tmp_path / "a" / "one.wav"]
    args = ("transcribe", *sounds, "--model", model, "-f", "txt", "--out-folder")
    assert run(*args, tmp_path / "texts") == 0
    names = sorted(path.name for path in (tmp_path / "texts").iterdir())
    assert names == ["one.txt", "talk-2.txt", "talk.flac.txt", "talk.txt"]
    capsys.readouterr()
    assert run(*args, sounds[0]) == 1
    assert "cannot be made" in capsys.readouterr().err


def test_a_prompt_and_its_recording_are_heard_and_not_told(
    model, sounds, tmp_path, capsys
):
    write_wav(tmp_path / "prompt.wav", noise(0.5, seed=7))
    args = ("transcribe", sounds[0], "--model", model, "--json", "--prompt", "hello")
    assert run(*args) == 0  # never said, and nothing else may come before it
    assert json.loads(capsys.readouterr().out)["words"] == []
    assert run(*args, "--prompt-file", tmp_path / "prompt.wav") == 0
    words = json.loads(capsys.readouterr().out)["words"]
    assert words and "hello" not in [word["text"] for word in words]


def test_a_name_that_cannot_be_written_is_refused(model, sounds, capsys):
    assert run("transcribe", sounds[0], "--model", model, "--expect", "Жук") == 1
    assert "cannot write" in capsys.readouterr().err


def test_ctrl_c_at_the_microphone_brings_the_last_words(model):
    stt, pcm = load_stt(model), noise(2.0)

    def blocks():
        for start in range(0, len(pcm), 1000):
            yield pcm[start : start + 1000]
        raise KeyboardInterrupt

    session = stt.session()
    events = list(heard(session, blocks()))
    again = stt.session()
    assert events == [*again.feed(pcm), *again.flush()]


def test_ctrl_c_keeps_what_was_heard_on_disk(model, sounds, tmp_path, monkeypatch):
    told = load_stt(model).transcribe(sounds[0]).words
    steps, step = [], Rows.step

    def interrupted(self):
        steps.append(1)
        if len(steps) > 20:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Rows, "step", interrupted)
    args = ("--model", model, "-f", "json", "--out-folder", tmp_path / "texts")
    assert run("transcribe", sounds[0], *args) == 130
    kept = json.loads((tmp_path / "texts" / "0.json").read_text())
    assert kept and kept == [vars(word) for word in told[: len(kept)]]


def test_the_microphones_words_are_written_too(model, tmp_path, monkeypatch, capsys):
    pcm = noise(1.2)

    @contextmanager
    def microphone(_choice):
        def blocks():
            yield pcm
            raise KeyboardInterrupt

        yield blocks()

    monkeypatch.setattr("moshi_mlx.live.devices.hear", microphone)
    monkeypatch.setattr("moshi_mlx.audio.device.find_device", lambda *_: None)
    args = ("--mic", "--model", model, "-f", "srt", "--out-folder", tmp_path, "--json")
    assert run("transcribe", *args) == 0
    found = json.loads(capsys.readouterr().out)
    session = load_stt(model).session()
    events = [*session.feed(pcm), *session.flush()]
    expected = Transcript.of(events, 1.2)
    assert found["text"] == expected.text and found["input"] == "microphone"
    assert found["duration_s"] == pytest.approx(1.2)
    assert expected.words[0].text in (tmp_path / "microphone.srt").read_text()


def test_a_folder_of_another_kind_is_refused_by_the_api():
    with pytest.raises(ConfigError, match="use one like kyutai/stt"):
        load_stt(TTS)
