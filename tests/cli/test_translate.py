"""`moshi-mlx translate`: both sides, words, the end of the input."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.audio import frames
from moshi_mlx.audio.files import read, write_wav
from moshi_mlx.checkpoint.build import load_mimi
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.cli.translate import live
from moshi_mlx.engines.duplex.files import respond
from moshi_mlx.engines.duplex.load import load_moshi as load
from moshi_mlx.engines.duplex.session import EOS, DuplexSession
from tests.family import run, translating, with_codec
from tests.listening import noise
from tests.speech import TTS, golden
from tests.tiny import DATA

HIBIKI, ZERO = DATA / "hibiki", DATA / "zero"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return translating(tmp_path_factory.mktemp("hibiki"))


@pytest.fixture
def speech(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("moshi_mlx.checkpoint.kinds.HIBIKI_TAIL_S", 2.0)
    write_wav(tmp_path / "in.wav", noise(0.6))
    return tmp_path / "in.wav"


def test_translation_words_and_both_sides(model, speech, tmp_path, capsys):
    out, both, words = (tmp_path / n for n in ("out.wav", "both.wav", "words.srt"))
    args = ("--model", model, "--seed", 3, "--both", both, "--words", words)
    assert run("translate", speech, out, *args, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    stereo, mono = read(both, mono=False), read(out)[0]
    assert stereo.shape[0] == 2
    np.testing.assert_allclose(stereo[0, :14400], read(speech)[0], atol=1e-4)
    assert not stereo[0, 15360:].any()
    shift = stereo.shape[1] - len(mono)
    np.testing.assert_array_equal(stereo[1, shift:], mono)
    assert found["audio_s"] == pytest.approx(stereo.shape[1] / 24000, abs=0.01)
    assert found["audio_s"] > 0.72  # the sign for the end, and what came after it
    assert found["words"] and found["words"][0]["text"] in words.read_text()
    assert json.loads(both.with_suffix(".json").read_text())["seed"] == 3


def test_guidance_and_seed_change_the_translation(model, speech, capsys):
    texts = []
    for more in ((), ("--cfg-coef", 3), ("--seed", 4), ()):
        args = ("--model", model, "--seed", 3, "--json", *more)
        assert run("translate", speech, *args) == 0
        texts.append(json.loads(capsys.readouterr().out)["text"])
    assert texts[0] == texts[3] and len(set(texts)) == 3


def test_the_text_is_printed_as_it_comes(model, speech, capsys):
    assert run("translate", speech, "--model", model, "--seed", 3) == 0
    printed = capsys.readouterr().out
    assert run("translate", speech, "--model", model, "--seed", 3, "--json") == 0
    text = json.loads(capsys.readouterr().out)["text"]
    assert printed.split() == text.split()


@pytest.mark.parametrize("name, coef", [("plain", 1.0), ("guided", 3.0)])
def test_every_token_to_the_end_of_the_translation_is_pytorchs(name, coef, tmp_path):
    folder = with_codec(tmp_path, json.loads((HIBIKI / "config.json").read_text()))
    shutil.copy(HIBIKI / "model.safetensors", folder)
    moshi, expected = load(folder), golden(HIBIKI / f"{name}.safetensors")
    session = moshi.session(temp=0, temp_text=0, cfg_coef=coef)
    heard = list(frames(TTS / "voice.wav"))[:12]  # PyTorch leaves out half a frame
    replies = [e.reply for e in respond(session, iter(heard), moshi)]
    text = np.array(expected["text"]).tolist()
    delay = moshi.lm.cfg.max_delay
    # The first call's text is not reported; the last ones come before their sound.
    assert [r.text_token for r in replies][: len(text) - 1] == text[1:]
    assert len(replies) == len(text) - 1 + delay
    assert text[-1] == EOS
    codes = np.stack([r.tokens for r in replies if r.tokens is not None], axis=1)
    np.testing.assert_array_equal(codes, np.array(expected["codes"]))


def test_an_end_of_text_before_the_end_of_the_input_is_ignored():
    text = np.array(golden(HIBIKI / "guided.safetensors")["text"]).tolist()
    assert text.count(EOS) == 2  # so the test above has seen one


@pytest.fixture(scope="module")
def zero(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("zero")
    with_codec(folder, json.loads((ZERO / "config.json").read_text()))
    shutil.copy(ZERO / "model.safetensors", folder)
    return folder


def test_every_token_of_hibiki_zero_is_pytorchs(zero):
    moshi, expected = load(zero), golden(ZERO / "plain.safetensors")
    heard = list(frames(TTS / "voice.wav"))
    session = moshi.session(temp=0, temp_text=0)
    replies = [e.reply for e in respond(session, iter(heard), moshi)]
    text = np.array(expected["text"]).tolist()
    assert len(replies) == len(text) > len(heard) + 1  # without the frame of its end
    delay = moshi.lm.cfg.max_delay  # the texts of the warm-up are not reported
    assert [r.text_token for r in replies][:-delay] == text[delay:]
    assert replies[-delay].text_token == EOS
    codes = np.stack([r.tokens for r in replies if r.tokens is not None], axis=1)
    np.testing.assert_array_equal(codes, np.array(expected["codes"]))


def test_hibiki_zero_translates_a_file_to_its_end(zero, tmp_path, capsys):
    out, both = tmp_path / "out.wav", tmp_path / "both.wav"
    args = ("--model", zero, "--temp", 0, "--both", both, "--json")
    assert run("translate", TTS / "voice.wav", out, *args) == 0
    found = json.loads(capsys.readouterr().out)
    codes = golden(ZERO / "plain.safetensors")["codes"]
    mimi = load_mimi(CheckpointInfo.find(zero), codes.shape[0])
    expected = np.array(mx.clip(mimi.decode(codes[None])[0, 0], -1, 1))
    np.testing.assert_allclose(read(out)[0], expected, atol=1e-4)
    assert found["audio_s"] == pytest.approx(len(expected) / 24000)
    assert read(both, mono=False).shape == (2, len(expected))


def test_a_live_translation_answers_frame_by_frame_until_ctrl_c(model):
    pcm = noise(0.6)

    def blocks():
        for start in range(0, len(pcm), 700):
            yield pcm[start : start + 700]
        raise KeyboardInterrupt

    moshi = load(model)
    exchanges = list(live(moshi.session(seed=1, first="silence"), blocks()))
    assert len(exchanges) == len(pcm) // 1920
    heard = np.concatenate([exchange.heard for exchange in exchanges])
    np.testing.assert_array_equal(heard, pcm[: len(heard)])
    session = moshi.session(seed=1, first="silence")
    for exchange in exchanges:
        assert session.step(exchange.heard).text == exchange.reply.text


def test_ctrl_c_keeps_what_was_translated_on_disk(
    model, speech, tmp_path, monkeypatch, capsys
):
    out, words = tmp_path / "out.wav", tmp_path / "words.json"
    args = ("--model", model, "--seed", 3, "--words", words, "--json")
    steps, step = [], DuplexSession.step

    def interrupted(self, frame):
        steps.append(1)
        if len(steps) > 25:
            raise KeyboardInterrupt
        return step(self, frame)

    monkeypatch.setattr(DuplexSession, "step", interrupted)
    assert run("translate", speech, out, *args) == 130
    found = json.loads(capsys.readouterr().out)
    assert found["words"] == json.loads(words.read_text()) != []
    assert found["audio_s"] == pytest.approx(len(read(out)[0]) / 24000, abs=0.2)


@pytest.mark.parametrize(
    "args, sentence",
    [
        ((), "use --mic"),
        (("gone.wav",), "there is no file gone.wav"),
        (("IN", "IN"), "is the input itself"),
        (("IN", "--words", "a.doc"), "not a file of words"),
        (("IN", "out.wav", "--both", "out.wav"), "is OUT.wav"),
        (("IN", "/no/such/place/out.wav"), "there is no folder"),
        (("IN", "--model", str(TTS)), "is a tts model and does not translate"),
    ],
)
def test_refusals_are_one_sentence(speech, capsys, args, sentence):
    args = [str(speech) if arg == "IN" else arg for arg in args]
    assert run("translate", *args) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "Error" in line]
    assert len(errors) == 1 and sentence in errors[0]
