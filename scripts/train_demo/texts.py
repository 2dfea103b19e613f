"""English to speak: a grammar of everyday words, quotations, Bible verses, questions.

Quotations and verses come from Debian's ``fortunes`` and ``bible-kjv-text`` packages
where they are installed. ``Sentences`` never repeats what ``TEST`` holds.
"""

import random
import re
import subprocess
from functools import cache
from pathlib import Path

from intents import INTENTS

FORTUNES = Path("/usr/share/games/fortunes")
TOPICS = ["computers", "education", "food", "kids", "law", "people", "science", "work"]

HERE = Path(__file__).parent
TEST = (HERE / "test_sentences.txt").read_text().splitlines()


def words() -> dict[str, list[str]]:
    """Kind to words; some are several, joined by underscores in the file."""
    text = (HERE / "words.txt").read_text().replace("\n ", " ")
    table = dict(line.split(": ", 1) for line in text.splitlines())
    return {k: [w.replace("_", " ") for w in v.split()] for k, v in table.items()}


WORDS = words()


def asked(question: str) -> str:
    """A question of the table of intents as one writes it."""
    first, text = question.split()[0], question[0].upper() + question[1:]
    for name in WORDS["proper"]:
        text = re.sub(rf"\b{name}\b", name.capitalize(), text)
    return text + ("?" if first in WORDS["asks"] else ".")


QUESTIONS = [asked(q) for intent in INTENTS.values() for q in intent.known]


def _clauses(text: str) -> list[str]:
    """Pieces of 4 to 16 plain words."""
    text, found = re.sub(r"\s+", " ", text), []
    for part in re.split(r"(?<=[.!?;:])\s", text):
        part = part.strip(" ;:")
        if re.fullmatch(r"[A-Za-z' ,.!?]+", part) and 4 <= len(part.split()) <= 16:
            found.append(part)
    return found


@cache
def quotations() -> list[str]:
    held, found = {line.lower() for line in TEST}, []
    for topic in TOPICS:
        if (path := FORTUNES / topic).exists():
            for piece in path.read_text(errors="ignore").split("\n%\n"):
                found += _clauses(piece.split("\n\t\t--")[0])
    return [quote for quote in found if quote.lower() not in held]


@cache
def verses(span: str = "gen1:1-luke24:53") -> list[str]:
    """Clauses of the King James Bible, by Debian's ``bible`` command."""
    command = ["bible", "-f", span]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    lines = [re.sub(r"^\S+ ", "", line) for line in run.stdout.splitlines()]
    return [clause for line in lines for clause in _clauses(line)]


class Sentences:
    """Random sentences, a different stream for each seed."""

    def __init__(self, seed: int):
        self.rng = random.Random(seed)

    def _pick(self, kind: str) -> str:
        return self.rng.choice(WORDS[kind])

    def _of(self, *choices: str) -> str:
        return self.rng.choice(choices)

    def _thing(self) -> str:
        chance = self.rng.random()
        if chance < 0.15:
            return self._pick("names")
        adjective = self._pick("adjectives") + " " if self.rng.random() < 0.45 else ""
        if chance < 0.3:
            return f"{self._pick('numbers')} {adjective}{self._pick('nouns')}s"
        owner = self._of(*WORDS["owners"])
        return f"{owner} {adjective}{self._pick('nouns')}"

    def _core(self) -> str:
        thing, pick, r = self._thing, self._pick, self.rng.random()
        who = self._of("I", "you", "we", "they", "he", "she")
        will = self._of("can", "will", "must", "should", "could", "would", "did")
        if r < 0.22:
            return f"{thing()} {pick('verbs')} {thing()}."
        if r < 0.36:
            return f"{thing()} {pick('moves')} {pick('places')} {thing()}."
        if r < 0.48:
            return f"{who} {will} {self._of('', '', 'not ')}{pick('bare')} {thing()}."
        if r < 0.58:
            asks = self._of("where", "when", "why", "how", "")
            return f"{asks} {will} {who} {pick('bare')} {thing()}?".strip()
        if r < 0.66:
            return f"{self._of('what', 'who')} is {pick('places')} {thing()}?"
        if r < 0.72:
            return f"{self._of('please', 'never', 'let us')} {pick('bare')} {thing()}."
        if r < 0.8:
            very = self._of("very ", "too ", "not ", "so ", "")
            return f"{thing()} {self._of('is', 'was')} {very}{pick('adjectives')}."
        if r < 0.86:
            many = f"{pick('numbers')} {pick('nouns')}s"
            return f"there are {many} {pick('places')} {thing()}."
        kinds = ["nouns", "adjectives", "bare", "numbers", "names", "verbs", "moves"]
        salad = [pick(self._of(*kinds)) for _ in range(self.rng.randint(3, 7))]
        return " ".join(salad) + "."  # every word after every other

    def grammar(self) -> str:
        s = self._core()
        if self.rng.random() < 0.3:
            s = f"{s[:-1]} {self._pick('times')}{s[-1]}"
        return s[0].upper() + s[1:]

    def __call__(self) -> str:
        r = self.rng.random()
        if r < 0.15:
            return self.rng.choice(QUESTIONS)
        if r < 0.4 and quotations():
            return self.rng.choice(quotations())
        if r < 0.6 and verses():
            return self.rng.choice(verses())
        return self.grammar()
