"""Mimi alone: sound to codes and back."""

from .engine import Codes, MimiCodec, MimiStream
from .load import load_codec

__all__ = ["Codes", "MimiCodec", "MimiStream", "load_codec"]
