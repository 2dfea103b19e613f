"""Words with their times, heard or said."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A word, and when it was said: seconds from the beginning of the sound."""

    text: str
    start_s: float
    end_s: float


def joined(words: Sequence[Word]) -> str:
    """Words as a text."""
    return " ".join(word.text for word in words)
