"""The ear that judges the demo's replies hears what is said, and nothing else."""

import json

import numpy as np
import pytest

from moshi_mlx.audio import files
from scripts.train_demo.intents import TEXTS_1, VERSION_1
from tests.questions import GOLDEN, QUESTIONS, SHIPPED, Question
from tests.recogniser import ANSWERS, hear

BLOCK = 1200  # samples: 50 ms


def names(question: Question) -> str:
    return question.name


def test_every_answer_can_be_told_from_every_other():
    assert VERSION_1 == 60
    assert len(ANSWERS) == len(TEXTS_1) == 61  # and the greeting


def test_the_shipped_recordings_are_three_of_the_six_questions():
    shipped = json.loads((SHIPPED / "questions.json").read_text())
    assert [entry["name"] for entry in shipped] == ["where", "joke", "planet"]
    for entry in shipped:
        assert Question(**entry) in QUESTIONS
    recordings = {path.stem for path in SHIPPED.glob("*.wav")}
    assert recordings == {entry["name"] for entry in shipped}


@pytest.mark.parametrize("question", GOLDEN, ids=names)
def test_the_reference_reply_is_heard(question):
    assert hear(question.reference_reply) == question.answer


@pytest.mark.parametrize("question", GOLDEN, ids=names)
def test_a_reply_in_pieces_is_not_taken_for_the_reply(question):
    reply = question.reference_reply
    (loud,) = np.nonzero(np.abs(reply) > 0.02)
    speech = reply[loud[0] : loud[-1]]
    assert hear(speech) == question.answer
    assert hear(speech[: speech.size // 2]) != question.answer
    assert hear(speech[::-1]) != question.answer
    blocks = np.split(speech[: speech.size // BLOCK * BLOCK], speech.size // BLOCK)
    order = np.random.default_rng(0).permutation(len(blocks))
    shuffled = np.concatenate([blocks[i] for i in order])
    assert hear(shuffled) != question.answer


@pytest.mark.parametrize("question", QUESTIONS + GOLDEN, ids=names)
def test_a_question_is_no_answer(question):
    assert hear(files.read(question.path)[0]) is None


def test_silence_and_noise_are_no_answers():
    noise = np.random.default_rng(0).standard_normal(48_000).astype(np.float32)
    assert hear(np.zeros(48_000, np.float32)) is None
    assert hear(0.001 * noise) is None  # a quiet room
    assert hear(0.1 * noise) is None  # a loud one
