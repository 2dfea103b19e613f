"""Speech to text: words with times, pauses and turns, from files or live."""

from ...documents.words import Word
from .engine import STTModel
from .events import EndOfTurn, Event, Pauses, Piece, Stalled, WordBegun
from .session import STTSession
from .transcript import Transcript, Turn

__all__ = [
    "EndOfTurn",
    "Event",
    "Pauses",
    "Piece",
    "STTModel",
    "STTSession",
    "Stalled",
    "Transcript",
    "Turn",
    "Word",
    "WordBegun",
]
