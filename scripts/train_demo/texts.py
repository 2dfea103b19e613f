"""English to speak: a grammar of everyday words, quotations, Bible verses, questions.

Quotations and verses come from Debian's ``fortunes`` and ``bible-kjv-text`` packages
where they are installed. Nothing that is kept for measuring is ever said.
"""

import random
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from itertools import cycle
from pathlib import Path
from shutil import which

from ear import plain
from intents import INTENTS, NAMES, patterns, worded
from shards import HELD_OUT, UNKNOWN

TOPICS = ["computers", "education", "food", "kids", "law", "people", "science", "work"]
FORTUNES = [Path("/usr/share/games/fortunes") / topic for topic in TOPICS]
BOOKS = Path("books")  # plain text, where there is some
BIBLE = ["bible", "-f", "gen1:1-luke24:53"]  # a command of Debian's
TEST = Path(__file__).with_name("test_sentences.txt").read_text().splitlines()
KEPT_OUT = HELD_OUT | {" ".join(plain(line)) for line in TEST}
GRAMMAR = patterns("words.txt")


def asked(question: str) -> str:
    """A question of the table of intents as one writes it."""
    first, text = question.split()[0], question[0].upper() + question[1:]
    for name in GRAMMAR["<proper>"]:
        text = re.sub(rf"\b{name}\b", name.capitalize(), text)
    return text + ("?" if first in GRAMMAR["<asks>"] else ".")


QUESTIONS = [  # and the intents' labels
    (asked(question), NAMES.index(name))
    for name, intent in INTENTS.items()
    for question in intent.known
]


def around(text: str, rng: random.Random) -> str:
    """Some questions begin or end as people's do."""
    chance = rng.random()
    if chance < 0.2:
        before = rng.choice(GRAMMAR["<before>"])
        return f"{before}, {text[0].lower()}{text[1:]}"
    if chance < 0.3:
        after = rng.choice(GRAMMAR["<after>"])
        return f"{text[:-1]}, {after}{text[-1]}"
    return text


@cache
def quotations() -> list[list[str]]:
    """Clauses of 4 to 16 plain words, of the collections that are there."""
    found = []
    for files in (FORTUNES, sorted(BOOKS.glob("*.txt"))):
        every = [file.read_text(errors="ignore") for file in files if file.exists()]
        found += [re.sub(r"\n\t\t--.*", "", "\n%\n".join(every))]
    if which("bible"):
        found += [subprocess.run(BIBLE, capture_output=True, text=True).stdout]
    collections = []
    for text in found:
        parts = re.split(
            r'(?<=[.!?;:])\s+|\n%\n|\n\S+:\d+ |["\u201c\u201d_]|--|\n\s*\n', text
        )
        parts = [" ".join(part.split()).strip(" ;:,") for part in parts]
        parts = [part for part in parts if re.fullmatch(r"[A-Za-z' ,.!?]+", part)]
        collections.append([part for part in parts if 4 <= len(part.split()) <= 16])
    return [clauses for clauses in collections if clauses]


def sentence(rng: random.Random) -> str:
    """Any: a question, a quotation, or one of the grammar's."""
    chance = rng.random()
    if chance < 0.15:
        return rng.choice(QUESTIONS)[0]
    if chance < 0.6 and quotations():
        return rng.choice(rng.choice(quotations()))
    text = worded("sentence", rng, GRAMMAR).replace(" .", ".").replace(" ?", "?")
    return text[0].upper() + text[1:]


def texts(what: str, rng: random.Random) -> Iterator[tuple[str, int]]:
    """What training's speakers say without end, and the labels of the intents.

    ``what``: ``known`` wordings, ``ways`` (by pattern), or ``free`` sentences.
    """
    for text, label in cycle(rng.sample(QUESTIONS, len(QUESTIONS))):
        if what == "known":
            said = around(text, rng), label
        elif what == "ways":
            label = rng.randrange(1, len(NAMES))
            said = around(asked(worded(NAMES[label], rng)), rng), label
        else:
            said = sentence(rng), UNKNOWN
        if " ".join(plain(said[0])) not in KEPT_OUT:
            yield said
