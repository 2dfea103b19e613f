"""The languages of a model: only its name tells them, no config.json does."""

import re
from pathlib import Path

from ..checkpoint.source import DEMO

# Codes that stand in names of Kyutai's: stt-1b-en_fr, tts-0.75b-en-public.
_CODES = ("en", "fr", "es", "pt", "de", "it", "ja")
_USUAL = ("en", "fr")  # of the first models, whose names say nothing


def languages_of(name: str) -> tuple[str, ...]:
    """Codes of the languages in a model's name or folder, such as "en".

    English and French if the name has none.
    """
    last = Path(name).name.lower()
    if last.split("-")[0] == DEMO:
        return ("en",)
    parts = re.split(r"[^a-z]+", last)
    return tuple(part for part in parts if part in _CODES) or _USUAL
