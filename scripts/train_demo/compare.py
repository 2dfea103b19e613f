"""Words of two sentences, to compare, and word errors by kind and voice."""

import re
from collections import defaultdict

import numpy as np

SAME = dict(
    pair.split("=")
    for pair in """it's=it is|i'm=i am|what's=what is|let's=let us|favourite=favorite|
    colour=color|colours=colors|neighbour=neighbor|nanomoshi=nano moshi|1st=first|
    $20=twenty dollars|0=zero|1=one|2=two|3=three|4=four|5=five|6=six|7=seven|8=eight|
    9=nine|10=ten|12=twelve|24=twenty four|42=forty two|100=one hundred""".replace(
        "\n    ", ""
    ).split("|")
)


def plain(text: str) -> list[str]:
    """Words to compare, numbers spelt."""
    text = text.lower().replace("\u2019", "'").replace("+", " plus ")
    words = re.sub(r"[^a-z0-9'$ ]", " ", text.replace("\u00b0", " degrees ")).split()
    return " ".join(SAME.get(word, word) for word in words).replace("'", "").split()


def distance(a: list, b: list) -> int:
    """Edits from one sequence to the other."""
    row = np.arange(len(b) + 1)
    for i, item in enumerate(a):
        last, row[0] = row.copy(), i + 1
        for j, other in enumerate(b):
            row[j + 1] = min(last[j + 1] + 1, row[j] + 1, last[j] + (item != other))
    return int(row[-1])


class Errors:
    """Word errors, each utterance's at most its words (an ear can babble)."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def add(self, wanted: str, heard: str, *kinds: str) -> int:
        """Count under each of ``kinds``; how many words were wrong."""
        goal = plain(wanted)
        wrong = min(distance(goal, plain(heard)), len(goal))
        for kind in kinds:
            self.rows[kind].append((wrong, len(goal)))
        return wrong

    def share(self, kind: str) -> float:
        """Of the words of a kind, 0 to 1."""
        wrong, words = np.sum(self.rows[kind], axis=0)
        return float(wrong / words)

    def __str__(self) -> str:
        lines = []
        for kind, rows in self.rows.items():
            exact = sum(not wrong for wrong, _ in rows) / len(rows)
            share = f"{self.share(kind):.1%} word errors, {exact:.1%} without any"
            lines.append(f"{kind}: {share}, n {len(rows)}")
        return "\n".join(lines)
