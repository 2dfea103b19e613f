"""A transcript in the formats of OpenAI's API."""

from typing import Any

from ....documents.words import Word
from ....engines.stt import Transcript

# The JSON formats, and the media types of the others.
TEXTS = {"text": "text/plain", "srt": "application/x-subrip", "vtt": "text/vtt"}
FORMS = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")


def as_text(found: Transcript, form: str) -> str:
    """The transcript in one of ``TEXTS``."""
    if form == "srt":
        return found.to_srt()
    return found.to_vtt() if form == "vtt" else found.text + "\n"


def as_json(
    found: Transcript,
    form: str,
    language: str,
    words: bool,
    task: str = "transcribe",
) -> dict[str, Any]:
    """The transcript in one of the other formats.

    Args:
        language: as the request gave it.
        words: whether ``verbose_json`` lists words.
        task: what was done, "transcribe" or "translate".
    """
    seconds = round(found.duration_s, 3)
    usage = {"type": "duration", "seconds": seconds}
    if form == "json":
        return {"text": found.text, "usage": usage}
    common = {"task": task, "duration": seconds, "text": found.text}
    if form == "diarized_json":
        told = [_spoken_by(turn, i) for i, turn in enumerate(found.turns)]
        return {**common, "segments": told, "usage": usage}
    segments = [_segment(i, turn.words) for i, turn in enumerate(found.turns)]
    verbose = {**common, "language": language, "segments": segments, "usage": usage}
    if words:
        verbose["words"] = timed(found)
    return verbose


def timed(found: Transcript) -> list[dict[str, Any]]:
    """The words with their times."""
    return [
        {"word": word.text, "start": word.start_s, "end": word.end_s}
        for word in found.words
    ]


def _segment(number: int, words: list[Word]) -> dict[str, Any]:
    """A turn; the scores that only Whisper has are neutral."""
    return {
        "id": number,
        "seek": 0,
        "start": words[0].start_s,
        "end": words[-1].end_s,
        "text": " ".join(word.text for word in words),
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": 0.0,
        "compression_ratio": 1.0,
        "no_speech_prob": 0.0,
    }


def _spoken_by(turn: Any, number: int) -> dict[str, Any]:
    """A turn; all have one speaker, because the model does not distinguish voices."""
    return {
        "type": "transcript.text.segment",
        "id": f"seg_{number}",
        "start": turn.start_s,
        "end": turn.end_s,
        "text": turn.text,
        "speaker": "A",
    }
