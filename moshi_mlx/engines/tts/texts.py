"""Texts to be spoken, and files of words that were spoken."""

import codecs
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ...documents.transcript import Timed, srt, vtt
from ...documents.words import Word
from ...errors import ConfigError
from . import SpeechSession
from .session import Pcm

MOST_NAME = 255  # characters of a file's name: longer is text


class Source:
    """Where a text comes from.

    Args:
        text: the text, a file's name, or "-" for standard input.
        jsonl: whether it is a file of scripts (or holds some, where it is "-"),
            whatever its name.

    Raises: ConfigError for no text, and for the name of a file that is not there.
    """

    def __init__(self, text: str, jsonl: bool = False):
        if not text.strip():
            raise ConfigError("the text has no words: give something to say.")
        self.live = text == "-"
        path = Path(text)
        named = len(text) <= MOST_NAME and "\n" not in text
        self.path = path if named and not self.live and path.is_file() else None
        self.jsonl = jsonl or (named and path.suffix == ".jsonl")
        looks_like_file = named and " " not in text and path.suffix in (".txt", ".md")
        scripts = self.jsonl and not self.live
        if self.path is None and (scripts or looks_like_file):
            raise ConfigError(f"there is no file {text}: check the name and folder.")
        self._text = text

    def read(self) -> str:
        """All of it. Raises: ConfigError for a file that holds no text."""
        if self.live:
            return sys.stdin.buffer.read().decode("utf-8", "replace")
        if self.path is None:
            return self._text
        try:
            return self.path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError) as error:
            raise ConfigError(f"{self.path} is no text file ({error}).") from error

    def pieces(self) -> Iterator[str]:
        """As it comes."""
        if not self.live:
            yield self.read()
            return
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while block := sys.stdin.buffer.read1(4096):  # type: ignore[union-attr]
            yield decoder.decode(block)


def spoken(session: SpeechSession, source: Source, dialogue: bool) -> Iterator[Pcm]:
    """Frames of sound, as early as the text allows; none before there is a word.

    Args:
        dialogue: every line that is not empty is another speaker's turn.

    Raises: ConfigError for a text without words.
    """
    early: list[Pcm] = []
    for pcm in _said(session, source, dialogue):
        early.append(pcm)
        if session.has_words:
            yield from early
            early.clear()
    if not session.has_words:
        raise ConfigError("the text has no words: give something to say.")


def _said(session: SpeechSession, source: Source, dialogue: bool) -> Iterator[Pcm]:
    turn, fresh = 0, True
    for piece in source.pieces():
        for part in piece.splitlines(keepends=True) if dialogue else [piece]:
            if dialogue and fresh and part.strip():
                if turn:
                    yield from session.turn(turn)
                turn, fresh = turn + 1, False
            yield from session.feed(part)
            fresh = fresh or part.endswith("\n")
    yield from session.finish()


def words_as_json(words: Sequence[Word]) -> str:
    return json.dumps([vars(word) for word in words], ensure_ascii=False) + "\n"


def timed(words: Sequence[Word]) -> list[Timed]:
    """Words as the pieces of a transcript."""
    return [Timed(f" {word.text}", word.start_s, word.end_s) for word in words]


FORMS: dict[str, Callable[[Sequence[Word]], str]] = {
    "json": words_as_json,
    "srt": lambda words: srt(timed(words)),
    "txt": lambda words: " ".join(word.text for word in words) + "\n",
    "vtt": lambda words: vtt(timed(words)),
}


def write_words(path: Path, words: Sequence[Word]) -> None:
    """Words with times, in the form that the file's name ends in.

    Raises: ConfigError for another ending, or where nothing can be written.
    """
    check_form(path)
    try:
        path.write_text(FORMS[path.suffix[1:]](words), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from error


def check_form(path: Path) -> None:
    """Raises: ConfigError for a file that ``write_words`` would refuse."""
    if path.suffix[1:] not in FORMS:
        raise ConfigError(f"{path} is no file of words: name it .{', .'.join(FORMS)}.")
