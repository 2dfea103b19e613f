"""What was said, as words and as turns."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from ...documents.words import Word
from .events import EndOfTurn, Event


@dataclass(frozen=True)
class Turn:
    """What was said until the speaker paused."""

    words: list[Word]

    @property
    def start_s(self) -> float:
        return self.words[0].start_s

    @property
    def end_s(self) -> float:
        return self.words[-1].end_s

    @property
    def text(self) -> str:
        return joined(self.words)


@dataclass(frozen=True)
class Transcript:
    """What was said in a sound of ``duration_s`` seconds."""

    words: list[Word]
    turns: list[Turn]
    duration_s: float

    @property
    def text(self) -> str:
        return joined(self.words)

    @classmethod
    def of(cls, events: Sequence[Event], duration_s: float) -> "Transcript":
        """Words, and the turns that they make, from what was reported."""
        words = [event for event in events if isinstance(event, Word)]
        ends = [event.time_s for event in events if isinstance(event, EndOfTurn)]
        turns: list[list[Word]] = [[] for _ in range(len(ends) + 1)]
        for word in words:  # its turn is the first that ends after it begins
            turns[bisect_right(ends, word.start_s)].append(word)
        return cls(words, [Turn(turn) for turn in turns if turn], duration_s)


def joined(words: Sequence[Word]) -> str:
    """Words as a text."""
    return " ".join(word.text for word in words)
