"""What nano Moshi knows: one spoken answer per intent, and ways of asking for it.

``intents.txt`` has a paragraph per intent: its name and answer; the wordings that
training asks for it with, the first of which is version 1's; after a question mark, the
wordings that are kept for measuring. The order is the order of the training labels.
``ways.txt`` has patterns of further wordings (see ``worded``).
"""

import random
import re
from pathlib import Path
from typing import NamedTuple

GREETING = "Hello! I am nano Moshi. Ask me something."
VERSION_1 = 60  # intents, the first ones, that version 1 knows

Patterns = dict[str, list[str]]


class Intent(NamedTuple):
    answer: str
    known: list[str]
    held_out: list[str]


def _read(path: Path) -> dict[str, Intent]:
    lines = iter(path.read_text(encoding="utf-8").splitlines())
    intents = {}
    for line in lines:
        name, answer = line.split(": ", 1)
        known, held_out = next(lines).strip(), next(lines).strip(" ?")
        intents[name] = Intent(answer, known.split(" | "), held_out.split(" | "))
    return intents


INTENTS = _read(Path(__file__).with_name("intents.txt"))

NAMES = ["greeting", *INTENTS]  # label 0 is spoken unasked, to a silent user
TEXTS = [GREETING, *(intent.answer for intent in INTENTS.values())]
TEXTS_1 = TEXTS[: VERSION_1 + 1]  # version 1's


def patterns(name: str) -> Patterns:
    """A file's names, and its ``<parts>``, to what may be said for them."""
    table, path = {}, Path(__file__).with_name(name)
    for line in path.read_text(encoding="utf-8").splitlines():
        name, rest = line.split(": ", 1)
        ways = rest.split(" | " if name[0] == "<" else " ; ")
        table[name] = [way.strip() for way in ways]
    return table


PATTERNS = patterns("ways.txt")


def worded(name: str, rng: random.Random, table: Patterns = PATTERNS) -> str:
    """A random wording, of thousands: for an intent, a way of asking for it.

    In a pattern ``<part>`` stands for one of its wordings, ``(a|b)`` for a or b, ``~``
    for nothing.
    """
    ways = table[name]
    (text,) = rng.choices(ways, [1 + way.count("(") + way.count("<") for way in ways])
    while "<" in text:
        text = re.sub(r"<\w+>", lambda part: rng.choice(table[part[0]]), text)
    text = re.sub(r"\(([^()]*)\)", lambda part: rng.choice(part[1].split("|")), text)
    return " ".join(text.replace("~", " ").split())
