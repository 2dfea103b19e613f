"""Speech to text: words with times, pauses and turns, from files or live."""

from ..words import Word
from .events import EndOfTurn, Event, Pauses, Piece, Stalled, WordBegun
from .model import STTModel
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
