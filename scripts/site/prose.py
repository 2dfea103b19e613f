"""Griffe reads our docstrings: sections in one line are prose, not lists of names.

`Raises: ValueError for any other kind.` is a sentence here; Griffe's Google style wants
a list of `name: text` lines and would drop what it cannot parse.
"""

import re
from typing import Any

import griffe

LABELS = "Raises|Returns|Shape|Source|Example|Yields"
SENTENCE = re.compile(rf"^(?:{LABELS}): (?=\S)", re.MULTILINE)
# `temp, top_k: text` describes two arguments with one entry.
SHARED = re.compile(r"^( +)(\w+(?:, \w+)+): (.*(?:\n\1 +.*)*)", re.MULTILINE)
LITERAL = re.compile(r"^::$|(?<=\w)::$", re.MULTILINE)  # reStructuredText's code mark


class Prose(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = rewrite(obj.docstring.value)


def rewrite(text: str) -> str:
    """``text`` with an entry for each name, and one-line sections as prose."""

    def apart(found: re.Match[str]) -> str:
        indent, names, meaning = found.groups()
        return "\n".join(f"{indent}{name}: {meaning}" for name in names.split(", "))

    bold = SENTENCE.sub(lambda found: f"**{found[0].rstrip()}** ", text)
    return LITERAL.sub("", SHARED.sub(apart, bold))
