"""Texts to be spoken: given, from a file, or while they are typed."""

import codecs
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ...audio.inputs import STDIN, exists, is_device
from ...audio.save import sound_writer
from ...documents.transcript import LAYOUT, Layout
from ...documents.word_files import write_words
from ...documents.words import Word
from ...errors import ConfigError
from .model import SpeechModel
from .session import Pcm, SpeechSession

MOST_NAME = 255  # characters of a file's name: anything longer is text
MOST_READ = 2**20  # bytes of a file at once


class TextSource:
    """Where a text comes from.

    Args:
        text: the text, the name of a file or pipe, or "-" for standard input.
        jsonl: whether it is a file of scripts (or contains some, if it is "-"),
            whatever its name.

    Raises: ConfigError for no text, and for the name of a file that is not there.
    """

    def __init__(self, text: str, jsonl: bool = False):
        if not text.strip():
            raise ConfigError("the text has no words: give something to say.")
        self.live = text in STDIN
        named = len(text) <= MOST_NAME and "\n" not in text
        path = Path(text) if named else None
        self.path = None if self.live or path is None or not exists(path) else path
        self.jsonl = jsonl or (path is not None and path.suffix == ".jsonl")
        self.name = "standard input" if self.live else str(path or "the text")
        suffix = "" if path is None or " " in text else path.suffix
        scripts = self.jsonl and not self.live
        if self.path is None and (scripts or suffix in (".txt", ".md")):
            raise ConfigError(f"there is no file {text}: check the name and folder.")
        if self.path is not None and is_device(self.path):  # it may never end
            raise ConfigError(f"{text} is a device: name a text file.")
        self._text = text

    def read(self) -> str:
        """All of the text. Raises: ConfigError for a file that contains no text."""
        return "".join(self.pieces())

    def read_bytes(self) -> bytes:
        """All of the file, as it is stored."""
        return b"".join(self._blocks())

    def pieces(self) -> Iterator[str]:
        """The text as it arrives. Raises: ConfigError if it is not UTF-8."""
        if not self.live and self.path is None:
            yield self._text
            return
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        try:
            for block in self._blocks():
                yield decoder.decode(block)
            yield decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise ConfigError(
                f"{self.name} is not a UTF-8 text file (it has the byte {byte:#04x}): "
                "save it as UTF-8 text."
            ) from error

    def _blocks(self) -> Iterator[bytes]:
        if self.live:
            while block := sys.stdin.buffer.read1(4096):  # type: ignore[union-attr]
                yield block
            return
        assert self.path is not None
        try:
            with self.path.open("rb") as file:
                while block := file.read1(MOST_READ):
                    yield block
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be read: {error.strerror}."
            ) from error


@dataclass(frozen=True)
class SpokenText:
    """A spoken text.

    Attributes:
        path: the sound file, if there is one.
        words: with their times.
        audio_s: length of the speech.
        wall_s: time to make it.
        first_sound_s: time to make the first frame.
    """

    path: Path | None
    words: list[Word]
    audio_s: float
    wall_s: float
    first_sound_s: float

    @property
    def times_real_time(self) -> float:
        """How many times faster than real time it was made."""
        return self.audio_s / self.wall_s if self.wall_s else 0.0


def speak_text(
    tts: SpeechModel,
    source: TextSource,
    session: SpeechSession,
    *,
    dialogue: bool = False,
    out: Path | None = None,
    words: Path | None = None,
    layout: Layout = LAYOUT,
    on_frame: Callable[[Pcm], None] = lambda _: None,
) -> SpokenText:
    """See ``TTSModel.speak``."""
    rate = int(tts.mimi.sample_rate)
    first_s, samples = None, 0
    with ExitStack() as stack:
        stack.callback(session.close)
        if words is not None:  # also after Ctrl-C
            stack.callback(
                lambda: session.words and write_words(words, session.words, layout)
            )
        started, writer = time.perf_counter(), None
        for pcm in spoken(session, source, dialogue):
            if first_s is None:
                first_s = time.perf_counter() - started
                if out is not None:  # a text that cannot be said overwrites nothing
                    writer = stack.enter_context(sound_writer(out, rate))
            samples += len(pcm)
            if writer is not None:
                writer.write(pcm)
            on_frame(pcm)
        wall_s = time.perf_counter() - started
    return SpokenText(out, session.words, samples / rate, wall_s, first_s or 0.0)


def spoken(session: SpeechSession, source: TextSource, dialogue: bool) -> Iterator[Pcm]:
    """Frames of sound, as early as the text allows; none before there is a word.

    Args:
        dialogue: every non-empty line is another speaker's turn.

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


def _said(session: SpeechSession, source: TextSource, dialogue: bool) -> Iterator[Pcm]:
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
