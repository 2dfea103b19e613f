"""Models that write text: Helium."""

from .engine import TextModel
from .session import TextSession

__all__ = ["TextModel", "TextSession"]
