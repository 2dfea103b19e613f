"""What a listener reports, in the order in which it notices it."""

from dataclasses import dataclass

from ...documents.words import Word


@dataclass(frozen=True)
class Piece:
    """Text as it comes, words and parts of words; a word begins with a space."""

    text: str


@dataclass(frozen=True)
class WordBegun:
    """A whole word, whose end is not known yet."""

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
    """Sound but no words for long: the model was made to start again."""

    time_s: float


Event = Piece | WordBegun | Word | Pauses | EndOfTurn | Stalled
