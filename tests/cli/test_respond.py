"""The respond command, as a user types it."""

import json
import wave
import weakref

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.audio import files
from moshi_mlx.cli.main import main
from moshi_mlx.engines.duplex.reply import Reply
from moshi_mlx.engines.duplex.response import Exchange, Response
from moshi_mlx.engines.duplex.session import DuplexSession
from tests.questions import GOLDEN, QUESTIONS
from tests.recogniser import hear

GREEDY = ["--model", "demo", "--temp", "0"]


def test_question_in_answer_out_with_recording_and_report(tmp_path, capsys):
    question = QUESTIONS[2]
    reply, talk = tmp_path / "reply.wav", tmp_path / "talk.wav"
    report = tmp_path / "report.html"
    args = [str(question.path), str(reply), "--recording", str(talk)]
    assert main(["respond", *GREEDY, *args, "--report", str(report)]) == 0

    out, err = capsys.readouterr()
    assert out.strip() == question.answer and not out.startswith(" ")
    assert "x real time" in err and "seed" in err
    assert hear(files.read(reply)[0]) == question.answer
    with wave.open(str(talk)) as wav:
        assert wav.getnchannels() == 2
    both = files.read(talk, mono=False)
    spoken = files.read(question.path)[0]
    size = min(spoken.size, both.shape[1])
    np.testing.assert_allclose(both[0, :size], spoken[:size], atol=1e-4)
    words = json.loads(talk.with_suffix(".json").read_text())["words"]
    assert " ".join(word["text"] for word in words) == question.answer
    page = report.read_text()
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "holiday?" in page


@pytest.mark.parametrize("frames", [0, 20])
def test_ctrl_c_leaves_a_report_of_the_sound_that_is_there(
    frames, tmp_path, capsys, monkeypatch
):
    reply, report = tmp_path / "reply.wav", tmp_path / "report.html"
    report.write_text("of another answer")
    steps, step = [], DuplexSession.step

    def interrupted(self, frame):
        steps.append(reply.exists())  # the warm-up came before
        if sum(steps) > frames:
            raise KeyboardInterrupt
        return step(self, frame)

    monkeypatch.setattr(DuplexSession, "step", interrupted)
    args = [str(QUESTIONS[2].path), str(reply), "--report", str(report), "--json"]
    assert main(["respond", *GREEDY, *args]) == 130
    summary = json.loads(capsys.readouterr().out)
    assert summary["frames"] == frames and summary["audio_s"] == frames * 0.08
    assert report.exists() == (frames > 0)
    if frames:
        assert "1.6 s" in report.read_text()  # nothing of the other answer
        assert 0 < files.read(reply)[0].size <= frames * 1920


def test_sound_stays_in_memory_only_for_a_report():
    session = moshi_mlx.load("demo").session()
    for report in (False, True):
        answer = Response(session, iter(()), "demo", keep_sound=report)
        frame = np.zeros(1920, np.float32)
        kept = weakref.ref(frame)
        answer.add(Exchange(frame, Reply(None, "", 3, None)))
        del frame
        assert (kept() is None) == (not report)


def test_what_cannot_be_written_leaves_the_report_of_what_is_there(tmp_path):
    report = tmp_path / "report.html"
    report.write_text("of another answer")
    args = [str(QUESTIONS[2].path), "/proc/no.wav", "--report", str(report)]
    assert main(["respond", *GREEDY, *args]) == 1
    assert report.read_text() == "of another answer"


def test_json_is_the_only_output(capsys):
    question = QUESTIONS[5]
    assert main(["respond", *GREEDY, str(question.path), "--json", "--seed", "3"]) == 0
    out, _ = capsys.readouterr()
    summary = json.loads(out)
    assert summary["text"] == question.answer
    assert summary["seed"] == 3
    assert summary["frames"] * 0.08 == pytest.approx(summary["audio_s"])
    assert set(summary["stages_ms"]) == {"encode", "step", "decode", "frame"}
    assert summary["words"][0]["text"] == question.answer.split()[0]


@pytest.mark.parametrize(
    "args, sentence",
    [
        (["nothere.wav"], "there is no file nothere.wav"),
        ([__file__], "is not a sound file"),
        ([str(QUESTIONS[0].path), "--model", "nofolder/x/y"], "nofolder/x/y"),
        ([str(QUESTIONS[0].path), "-q", "8"], "quantised to 4 bits"),
        ([str(QUESTIONS[0].path), "/nowhere/out.wav"], "cannot be written"),
        ([str(QUESTIONS[0].path), "--codec", "rust"], "native codec"),
    ],
)
def test_bad_input_is_one_sentence(args, sentence, capsys):
    if "--model" not in args:
        args = [*args, "--model", "demo"]
    assert main(["respond", *args]) == 1
    _, err = capsys.readouterr()
    assert sentence in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("option", ["--cfg-coef", "--temp", "--tail"])
@pytest.mark.parametrize("value", ["nan", "-1"])
def test_numbers_that_cannot_be_are_usage_errors(option, value, capsys):
    args = ["respond", str(QUESTIONS[0].path), "--model", "demo", option, value]
    assert main(args) == 2
    assert option in capsys.readouterr().err


def test_no_file_is_written_over_another(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    question = tmp_path / "question.wav"
    question.write_bytes(QUESTIONS[1].path.read_bytes())
    for args, sentence in [
        (["./question.wav"], "question.wav is the input itself: give OUT.wav another"),
        (
            ["a.wav", "--recording", "a.wav"],
            "a.wav is OUT.wav: give --recording another name",
        ),
        (["--report", "no/r.html"], "no/r.html cannot be written: there is no folder"),
        (["a.m4a", "--model", "no/model/x"], "a.m4a cannot be written: name it .wav"),
    ]:
        assert main(["respond", *GREEDY, str(question), *args]) == 1
        assert sentence in capsys.readouterr().err
    assert question.read_bytes() == QUESTIONS[1].path.read_bytes()
    assert list(tmp_path.iterdir()) == [question]


@pytest.mark.parametrize("seed", ["-1", str(2**64)])
def test_a_seed_that_cannot_be_is_refused(seed, capsys):
    assert main(["respond", *GREEDY, str(QUESTIONS[1].path), "--seed", seed]) == 2
    assert "--seed" in capsys.readouterr().err


def test_run_inference_takes_the_flags_of_0_3_0(tmp_path, capsys, monkeypatch):
    import sys

    from moshi_mlx import run_inference

    folder = "tests/data/demo"
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "run_inference",
            *("--hf-repo", folder),
            *("--moshi-weights", f"{folder}/model.safetensors"),
            *("--mimi-weights", f"{folder}/mimi-nano.safetensors"),
            *("--tokenizer", f"{folder}/tokenizer_nano.model"),
            *("--lm-config", f"{folder}/config.json"),
            *("--temp", "0", "--cfg-coef", "1.0", "--tail", "0", "--verbose"),
            str(GOLDEN[1].path),
            str(tmp_path / "out.wav"),
        ],
    )
    assert run_inference.main() == 0
    out, err = capsys.readouterr()
    assert GOLDEN[1].answer in out
    assert "seed 299792458" in err
    assert hear(files.read(tmp_path / "out.wav")[0]) == GOLDEN[1].answer
