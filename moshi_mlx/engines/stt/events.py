"""The events of a transcription, in the order in which they happen."""

from dataclasses import dataclass

from ...documents.words import Word


@dataclass(frozen=True)
class Piece:
    """New text: words and parts of words; a word begins with a space."""

    text: str


@dataclass(frozen=True)
class WordBegun:
    """A complete word, whose end time is not known yet."""

    text: str
    start_s: float


@dataclass(frozen=True)
class Pauses:
    """How likely the speaker has paused for at least each of the model's lengths.

    One probability per extra head; see ``STTModel.pause_lengths_s``.
    """

    time_s: float
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class EndOfTurn:
    """The speaker has finished; the last words of the turn may still be coming."""

    time_s: float


@dataclass(frozen=True)
class Stalled:
    """There was sound but no words for long, so the model was restarted."""

    time_s: float


Event = Piece | WordBegun | Word | Pauses | EndOfTurn | Stalled
