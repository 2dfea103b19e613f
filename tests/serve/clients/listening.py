"""What the programs hear and read, and what is right."""

import os
from pathlib import Path

import numpy as np

from moshi_mlx.audio.files import read
from tests.questions import QUESTIONS
from tests.recogniser import hear, words

# Another family of models may take the demo's place.
MODEL = os.environ.get("MOSHI_CLIENTS_MODEL") or "demo"
_PLANET = next(q for q in QUESTIONS if q.name == "planet")
QUESTION = _PLANET.path  # a voice that the models have not heard in training
ANSWER = "Jupiter is the biggest planet."
TEXT = "The capital of France is Paris."  # to be spoken
_MOST_WRONG = 1  # of the question's five words: the demo is small


def is_question(text: str) -> bool:
    """Whether these are the words of the question, but for one at most."""
    return _errors(words(text).split(), words(_PLANET.question).split()) <= _MOST_WRONG


def says(path: Path) -> str | None:
    """What an ear of its own understands in a sound file: one of the demo's answers."""
    if path.suffix == ".pcm":  # as the Realtime API sends it
        pcm = np.frombuffer(path.read_bytes(), "<i2").astype(np.float32) / 32768
    else:
        pcm = read(path)[0]
    return hear(pcm)


def _errors(read_words: list[str], right: list[str]) -> int:
    """Words to add, leave out or replace."""
    row = list(range(len(right) + 1))
    for i, word in enumerate(read_words, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(right, 1):
            least = min(row[j] + 1, row[j - 1] + 1, before + (word != other))
            before, row[j] = row[j], least
    return row[-1]


def has_answer(texts: list[str]) -> bool:
    """Whether one of the texts is the right answer to the question."""
    return any(words(ANSWER) == words(text) for text in texts)
