"""The looks of our documents: the same style for all, and one colour per speaker."""

from pathlib import Path

YOU, MOSHI = "#d9702a", "#0f7868"  # also on terminals, light or dark


def looks() -> str:
    """The style sheet that all pages share, in light and dark."""
    return Path(__file__).with_name("looks.css").read_text(encoding="utf-8")
