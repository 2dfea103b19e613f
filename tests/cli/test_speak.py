"""`moshi-mlx speak` and `voices`: what is written, printed and refused."""

import io
import json
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.audio.files import read
from moshi_mlx.engines.tts import SpeechRun
from moshi_mlx.engines.tts.script_file import Failure, Script, read_scripts
from moshi_mlx.errors import AudioError
from tests.family import run
from tests.questions import PYTORCH
from tests.speech import EXPECTED, PREFIX, TTS

SPEAK = ("--model", TTS, "--voice-repo", TTS, "--seed", 1)
VOICE = ("--voice", "voice_a.wav")
TEXT = "hello there how are you today"


def wave(path: Path) -> np.ndarray:
    return read(path)[0]


def test_a_text_becomes_sound_and_words(tmp_path, capsys):
    out, words = tmp_path / "a.wav", tmp_path / "a.json"
    assert run("speak", TEXT, *SPEAK, *VOICE, "-o", out, "--words", words) == 0
    found = json.loads(words.read_text())
    assert [word["text"] for word in found] == TEXT.split()
    assert len(wave(out)) / 24000 == pytest.approx(found[-1]["end_s"] + 0.16, abs=0.01)
    assert "x real time), the first sound after" in capsys.readouterr().err


def test_the_name_of_the_file_chooses_its_format(tmp_path, capsys):
    lengths = []
    for name, magic in (("a.mp3", b"\xff"), ("a.opus", b"OggS"), ("a.flac", b"fLaC")):
        out = tmp_path / name
        assert run("speak", TEXT, *SPEAK, *VOICE, "-o", out) == 0
        assert out.read_bytes().startswith(magic)
        lengths.append(len(wave(out)))
    assert max(lengths) - min(lengths) < 4800
    assert run("speak", TEXT, *SPEAK, *VOICE, "-o", tmp_path / "a.webm") == 1
    assert "a.webm cannot be written: name it .wav, .mp3" in capsys.readouterr().err


def test_the_same_text_from_a_file_and_from_standard_input(tmp_path, monkeypatch):
    (tmp_path / "t.txt").write_text(TEXT)
    source = type("Stdin", (), {"buffer": io.BytesIO(TEXT.encode())})()
    monkeypatch.setattr(sys, "stdin", source)
    for name, text in (("a", TEXT), ("b", tmp_path / "t.txt"), ("c", "-")):
        out = tmp_path / f"{name}.wav"
        assert run("speak", text, *SPEAK, *VOICE, "-o", out) == 0
    first = wave(tmp_path / "a.wav")
    for name in "bc":
        np.testing.assert_array_equal(wave(tmp_path / f"{name}.wav"), first)


def test_lines_take_turns_where_there_are_two_voices(tmp_path):
    (tmp_path / "t.txt").write_text("hello there\n\nhow are you\n a nice day in paris")
    args = ("--voice", "voice_a.wav", "--voice", "voice_b.wav", "--temp", 0)
    out, words = tmp_path / "d.wav", tmp_path / "d.json"
    more = ("-o", out, "--words", words, "--padding-between", 0)
    assert run("speak", tmp_path / "t.txt", *SPEAK, *args, *more) == 0
    starts = [
        [w["text"], round(w["start_s"] * 12.5)] for w in json.loads(words.read_text())
    ]
    assert starts == EXPECTED["dialogue_between0"]["transcript"]


def test_subtitles(tmp_path):
    for form in ("srt", "vtt"):
        words = tmp_path / f"a.{form}"
        out = tmp_path / "a.wav"
        assert run("speak", TEXT, *SPEAK, *VOICE, "-o", out, "--words", words) == 0
        assert "hello there how are you today" in words.read_text()
    assert (tmp_path / "a.vtt").read_text().startswith("WEBVTT")


def test_json_for_programs(tmp_path, capsys):
    out = tmp_path / "a.wav"
    assert run("speak", "hello", *SPEAK, *VOICE, "-o", out, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["output"] == str(out)
    assert [word["text"] for word in found["words"]] == ["hello"]
    assert found["first_sound_s"] <= found["wall_s"]


def test_a_recording_as_voice_of_the_smaller_kind(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("mimi.safetensors", "mimi_config.json", "tokenizer.model"):
        (folder / name).symlink_to(TTS / name)
    for name in ("config.json", "model.safetensors"):
        (folder / name).symlink_to(PREFIX / name)
    out, recording = tmp_path / "a.wav", TTS / "voice.wav"
    args = ("--model", folder, "--voice", recording, "--seed", 1, "-o", out)
    assert run("speak", TEXT, *args) == 0
    assert len(wave(out)) > 24000


@pytest.mark.parametrize(
    "args, sentence",
    [
        (("", *VOICE), "no words"),
        (("Жук", *VOICE), "no words"),
        (("missing.txt", *VOICE), "there is no file missing.txt"),
        (("hello", "--voice", "voice_c.wav"), "nearest are voice_"),
        (("hello", "--voice", str(TTS / "voice.wav")), "is a recording"),
        (("hello", "--voice", "voice_a.wav.dead@1.safetensors"), "another model"),
        (("hello", *VOICE, "--words", "words.doc"), "is not a file of words"),
        (("hello", *VOICE, "--words", "/no/such/place/w.srt"), "there is no folder"),
        (("hello", *VOICE, "-o", "tests"), "tests is a folder"),
        (("hello", "--voice", "README.md", "-o", "README.md"), "is the input itself"),
        (("hello", *VOICE, "--cfg-coef", "2.2"), "use one of 1.0, 1.5"),
    ],
)
def test_refusals_are_one_sentence(tmp_path, capsys, args, sentence):
    out = () if "-o" in args else ("-o", tmp_path / "a.wav")
    assert run("speak", *args, *SPEAK, *out) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "Error" in line]
    assert len(errors) == 1 and sentence in errors[0]


def test_options_of_one_text_are_refused_for_scripts(tmp_path, capsys):
    (tmp_path / "s.jsonl").write_text(script("a", "hello"))
    assert run("speak", tmp_path / "s.jsonl", *SPEAK, *VOICE, "--play") == 1
    assert "--play, --voice applies to one text" in capsys.readouterr().err


def test_a_text_that_cannot_be_said_overwrites_nothing(tmp_path):
    out = tmp_path / "a.wav"
    assert run("speak", "hello", *SPEAK, *VOICE, "-o", out) == 0
    before = out.read_bytes()
    assert run("speak", "\u4f60\u597d", *SPEAK, *VOICE, "-o", out) == 1
    assert out.read_bytes() == before


def test_ctrl_c_keeps_what_was_spoken_on_disk(tmp_path, monkeypatch):
    pieces = iter([f"{TEXT} {TEXT} ".encode()])

    def read1(_size: int) -> bytes:
        try:
            return next(pieces)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(
        sys, "stdin", SimpleNamespace(buffer=SimpleNamespace(read1=read1))
    )
    out, words = tmp_path / "a.wav", tmp_path / "a.json"
    assert run("speak", "-", *SPEAK, *VOICE, "-o", out, "--words", words) == 130
    kept = [word["text"] for word in json.loads(words.read_text())]
    assert kept == [*TEXT.split(), *TEXT.split()][: len(kept)] and len(kept) > 6
    assert len(wave(out)) > 24000


def test_without_a_loudspeaker_nothing_is_loaded(capsys, monkeypatch):
    def nothing(*_):
        raise AudioError("this machine has no loudspeaker")

    monkeypatch.setattr("moshi_mlx.audio.device.find_device", nothing)
    assert run("speak", "hello", "--play", "--model", "no/such-model") == 1
    assert "no loudspeaker" in capsys.readouterr().err


def test_nothing_to_do_is_said_before_loading(capsys):
    assert run("speak", "hello", "--model", "no/such-model") == 1
    assert "add -o OUT.wav" in capsys.readouterr().err


def test_a_model_that_does_not_speak_is_named(tmp_path, capsys):
    moshi = PYTORCH  # a folder without a tts.json
    assert run("speak", "hello", "--model", moshi, "-o", tmp_path / "a.wav") == 1
    assert "demo is a moshi model and does not speak" in capsys.readouterr().err


def script(id: str, *turns: str, voice: str = "voice_a.wav") -> str:
    return json.dumps({"turns": turns, "voices": [voice], "id": id})


def test_scripts_in_batches_are_what_they_are_alone(tmp_path, capsys):
    lines = [
        script("one", TEXT),
        "{broken",
        script("folder/two.x", "a nice day", "in paris"),
        script("three", "hello", voice="voice_q.wav"),
        script("four", " "),
        "",
        script("one", "again"),
        script("../up", "hello"),
        script("mixed", "hello \u4f60\u597d there"),
    ]
    path = tmp_path / "s.jsonl"
    path.write_text("\n".join(lines))
    together, alone = tmp_path / "together", tmp_path / "alone"
    args = ("speak", path, *SPEAK, "--out-folder")
    assert run(*args, together, "--batch-size", 4, "--json") == 1
    output = capsys.readouterr()
    found = json.loads(output.out)
    failed = {failure["line"]: failure["reason"] for failure in found["failures"]}
    assert sorted(failed) == [2, 4, 5, 7, 8]
    assert "is not JSON" in failed[2] and "nearest are" in failed[4]
    assert "no words" in failed[5] and "used before" in failed[7]
    assert "cannot name a file here" in failed[8]
    assert "line 4: " in output.err
    assert "line 9: the model cannot say \u4f60 \u597d: left out" in output.err
    mixed = json.loads((together / "mixed.json").read_text())["transcript"]
    assert [word for word, _ in mixed] == ["hello", "there"]
    assert run(*args, alone) == 1
    for name in ("one", "folder/two.x"):
        mine = wave(together / f"{name}.wav")
        np.testing.assert_allclose(mine, wave(alone / f"{name}.wav"), atol=2e-4)
        about = json.loads((together / f"{name}.json").read_text())
        assert about["padding_between"] == 1 and about["start_step"] == 0
        tensors = mx.load(str(together / f"{name}.safetensors"))
        assert isinstance(tensors, dict)
        assert tensors["frames"].shape[0] == 6
        assert len(mine) == (about["end_step"] + about["final_padding"] - 2) * 1920


def test_who_has_ended_makes_room_for_the_next_script(tmp_path, monkeypatch):
    texts = {"long": f"{TEXT} {TEXT}", "a": "hello", "b": "a nice day", "c": "in paris"}
    path, steps = tmp_path / "s.jsonl", []
    path.write_text("\n".join(script(id, text) for id, text in texts.items()))
    original = SpeechRun.step

    def counted(self):
        steps.append(len(self.rows))
        return original(self)

    monkeypatch.setattr(SpeechRun, "step", counted)
    args = ("speak", path, *SPEAK, "--only-wav", "--out-folder")
    assert run(*args, tmp_path / "alone") == 0
    assert run(*args, tmp_path / "two", "--batch-size", 2) == 0
    alone = {id: len(wave(tmp_path / f"alone/{id}.wav")) // 1920 + 6 for id in texts}
    others = sum(alone.values()) - alone["long"]
    assert steps.count(2) == max(alone["long"], others)
    for id in texts:
        mine, wanted = (
            wave(tmp_path / where / f"{id}.wav") for where in ("two", "alone")
        )
        np.testing.assert_allclose(mine, wanted, atol=2e-4)


def test_scripts_from_standard_input(tmp_path, monkeypatch):
    lines = f"{script('a', 'hello')}\n{script('b', 'in paris')}\n"
    source = type("Stdin", (), {"buffer": io.BytesIO(lines.encode())})()
    monkeypatch.setattr(sys, "stdin", source)
    args = ("--jsonl", "--only-wav", "--out-folder", tmp_path / "out")
    assert run("speak", "-", *SPEAK, *args) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.wav", "b.wav"]


def test_links_in_the_output_folder_are_not_followed(tmp_path, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.wav").write_bytes(b"mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.wav").symlink_to(tmp_path / "other" / "mine.wav")
    (out / "d").symlink_to(tmp_path / "other")
    (out / "e.json").symlink_to(tmp_path / "other" / "new.json")
    (out / "f.wav").mkdir()
    ids = ["a", "d/b", "e", "f", "c"]
    (tmp_path / "s.jsonl").write_text("\n".join(script(id, "hello") for id in ids))
    args = ("speak", tmp_path / "s.jsonl", *SPEAK, "--out-folder", out, "--json")
    assert run(*args) == 1
    found = json.loads(capsys.readouterr().out)
    reasons = {failure["line"]: failure["reason"] for failure in found["failures"]}
    assert sorted(reasons) == [1, 2, 3, 4]
    assert all("through the link" in reasons[line] for line in (1, 2, 3))
    assert "cannot be written" in reasons[4]
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["mine.wav"]
    assert (tmp_path / "other" / "mine.wav").read_bytes() == b"mine"
    assert found["outputs"] == [str(out / "c.wav")]


@pytest.mark.parametrize(
    "data", ["caf\u00e9".encode("latin-1"), "caf".encode("utf-16")]
)
def test_a_text_that_is_no_utf8_is_a_sentence(data: bytes, tmp_path, capsys):
    (tmp_path / "a.txt").write_bytes(data)
    out = tmp_path / "a.wav"
    assert run("speak", tmp_path / "a.txt", *SPEAK, *VOICE, "-o", out) == 1
    assert "a.txt is not a UTF-8 text file" in capsys.readouterr().err
    assert not out.exists()


def test_a_pipe_is_read_as_a_file_is(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    text = threading.Thread(target=(tmp_path / "pipe").write_text, args=("hello",))
    text.start()
    args = (*SPEAK, *VOICE, "-o")
    assert run("speak", tmp_path / "pipe", *args, tmp_path / "a.wav") == 0
    text.join()
    assert run("speak", "hello", *args, tmp_path / "b.wav") == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_broken_lines_are_named_and_the_others_read():
    good = '{"turns": ["a"], "voices": ["v"], "id": "x"}'
    bad = ['["a"]', '{"turns": ["a"]}', good.replace('["a"]', "[1]"), good + "}"]
    found = list(read_scripts("\n".join([*bad, good])))
    assert [type(r) for r in found] == [Failure] * 4 + [Script]
    reasons = [r.reason for r in found if isinstance(r, Failure)]
    for reason, part in zip(
        reasons,
        ("not a JSON object", "id, voices", "texts as turns", "not JSON"),
        strict=True,
    ):
        assert part in reason


def test_a_voice_without_a_recording_is_heard_with_speak(capsys):
    assert run("voices", "--model", "demo", "--play", "heart") == 1
    assert "speak --model demo --voice heart --play" in capsys.readouterr().err


def test_voices_are_listed_and_searched(capsys):
    args = ("voices", "--model", TTS, "--voice-repo", TTS)
    assert run(*args) == 0
    output = capsys.readouterr()
    assert output.out.split() == ["voice_a.wav", "voice_b.wav"]
    assert "Only those who trained this model can make" in output.err
    assert run(*args[:1], "_B", *args[1:], "--json") == 0
    assert json.loads(capsys.readouterr().out)["voices"] == ["voice_b.wav"]
    assert run(*args[:1], "voic_a", *args[1:]) == 0
    assert "voice_a.wav" in capsys.readouterr().out.split()
    assert run(*args[:1], "zzzz", *args[1:]) == 1
    assert "no voice like zzzz: it has voice_a.wav, voice_b.wav." in (
        capsys.readouterr().err
    )
