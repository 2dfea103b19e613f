"""Transcripts: words and turns."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...documents.word_files import words_as_srt, words_as_vtt
from ...documents.words import Word, joined
from .events import EndOfTurn, Event


@dataclass(frozen=True)
class Turn:
    """The words that were said until the speaker paused."""

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


@dataclass(frozen=True, repr=False)
class Transcript:
    """The words and turns of a sound of ``duration_s`` seconds."""

    words: list[Word]
    turns: list[Turn]
    duration_s: float

    @property
    def text(self) -> str:
        return joined(self.words)

    def __repr__(self) -> str:
        turns = "1 turn" if len(self.turns) == 1 else f"{len(self.turns)} turns"
        count = f"{len(self.words)} words in {turns}"
        return f"<Transcript of {self.duration_s:.1f} s: {count}>"

    def to_srt(self) -> str:
        """Subtitles in SubRip's format."""
        return words_as_srt(self.words)

    def to_vtt(self) -> str:
        """Subtitles in WebVTT's format."""
        return words_as_vtt(self.words)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain lists and numbers, ready for JSON."""
        return {
            "duration_s": round(self.duration_s, 3),
            "text": self.text,
            "words": [vars(word) for word in self.words],
            "turns": [
                {"start_s": turn.start_s, "end_s": turn.end_s, "text": turn.text}
                for turn in self.turns
            ],
        }

    @classmethod
    def of(cls, events: Sequence[Event], duration_s: float) -> "Transcript":
        """A transcript from events."""
        words = [event for event in events if isinstance(event, Word)]
        ends = [event.time_s for event in events if isinstance(event, EndOfTurn)]
        turns: list[list[Word]] = [[] for _ in range(len(ends) + 1)]
        for word in words:  # its turn is the first one to end after its start
            turns[bisect_right(ends, word.start_s)].append(word)
        return cls(words, [Turn(turn) for turn in turns if turn], duration_s)
