"""From text with turns and breaks to the entries that the state machine takes."""

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from ...utils.text import Tokenizer
from ..keeping import remember, remembered
from .machine import Entry, TokenIds
from .markup import SPOKEN, Markup, composed, outside_tags
from .numbers import spelt

_SHOWN = 20  # characters in a message


class SpeechTokenizer(Tokenizer, Protocol):
    """The parts of a ``sentencepiece.SentencePieceProcessor`` that speech uses."""

    def unk_id(self) -> int: ...


REMEMBERED = ("_speaker", "_turn")


class ScriptReader:
    """Reads turns of text that arrive in pieces; returns words when they are complete.

    Each word is tokenised alone. A turn's first word is preceded by its speaker's token
    when the speaker changes, for models that know speakers.

    Args:
        tokenizer: of the model.
        token_ids: special tokens.
        frame_rate: steps per second, the unit of breaks.
        multi_speaker: whether the model knows speakers.
        padding_between: least steps between the tokens of a word and the next word; 0
            leaves it to the model.
        spell: changes a word before it is tokenised, perhaps into several; "" drops
            it.

    Raises: ConfigError for tags that are not understood, see ``Markup``.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        token_ids: TokenIds,
        frame_rate: float,
        multi_speaker: bool = True,
        padding_between: int = 0,
        spell: Callable[[str], str] = str,
    ):
        self._tokenizer = tokenizer
        self._speakers = token_ids.main, token_ids.other
        self._frame_rate = frame_rate
        self._multi_speaker = multi_speaker
        self._padding_between = padding_between
        self._speaker: int | None = None  # who spoke the last word
        self._turn: int | None = 0  # whose turn begins with the next word
        self._spell = spell
        self._markup = Markup()

    @property
    def state(self) -> dict[str, Any]:
        """The text that is not a complete word yet, and its turn."""
        return {**remembered(self, REMEMBERED), "pending": self._markup.pending}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self._markup.pending = state["pending"]
        remember(self, {name: state[name] for name in REMEMBERED})

    def turn(self, index: int) -> list[Entry]:
        """Start turn ``index``; even ones are the main speaker's.

        Returns: the last word of the previous turn.
        """
        entries = self.flush()
        self._turn = index % len(self._speakers)
        return entries

    def feed(self, text: str) -> list[Entry]:
        """The entries that ``text`` completes; a word ends at white space."""
        return self._entries(self._markup.feed(text))

    def flush(self) -> list[Entry]:
        """The pending entries, as if white space followed."""
        return self._entries(self._markup.flush())

    def _entries(self, parts: Sequence[str | float]) -> list[Entry]:
        entries = []
        for part in parts:
            if isinstance(part, str):
                entries += [self._word(word) for word in self._spell(part).split()]
            else:
                steps = round(part * self._frame_rate)
                entries.append(Entry(tokens=[], text="", padding=steps))
        return entries

    def _word(self, word: str) -> Entry:
        tokens = list(self._tokenizer.encode(word))
        if self._turn is not None:
            if self._multi_speaker and self._turn != self._speaker:
                self._speaker = self._turn
                tokens.insert(0, self._speakers[self._turn])
            self._turn = None
        padding = self._padding_between + len(tokens) - 1
        if self._padding_between <= 0:
            padding = 0
        return Entry(tokens=tokens, text=word, padding=max(padding, 0))


def script_to_entries(
    tokenizer: Tokenizer,
    token_ids: TokenIds,
    frame_rate: float,
    script: Sequence[str],
    multi_speaker: bool = True,
    padding_between: int = 0,
) -> list[Entry]:
    """A whole script as entries.

    Args:
        script: turns, the main speaker's first; an empty first turn lets the other
            speaker start. ``<break time="0.5s"/>`` is a pause.
        padding_between: see ``ScriptReader``; 1 articulates a little better.
    """
    reader = ScriptReader(
        tokenizer, token_ids, frame_rate, multi_speaker, padding_between
    )
    entries: list[Entry] = []
    for index, turn in enumerate(script):
        entries += reader.turn(index)
        entries += reader.feed(turn)
    return entries + reader.flush()


def without_unknown(tokenizer: SpeechTokenizer, text: str) -> tuple[str, list[str]]:
    """``text`` without the characters that the tokenizer cannot write, and those
    characters.

    They would become its unknown token, which the model cannot say. Accents are
    composed first, see ``composed``. A tokenizer without digits gets numbers in English
    words. Dashes, slashes and other marks without tokens separate words; they are not
    reported.
    """
    unknown: list[str] = []

    def known(text: str) -> str:
        if tokenizer.unk_id() in tokenizer.encode("0123456789"):
            text = spelt(text)
        table = {}
        for letter in dict.fromkeys(text):
            spoken = letter.translate(SPOKEN).strip()
            if spoken and tokenizer.unk_id() in tokenizer.encode(spoken):
                parts = unicodedata.category(letter)[0] == "P"
                table[ord(letter)] = " " if parts else None
                unknown.extend([letter] * (not parts))
        return text.translate(table)

    return outside_tags(composed(text), known), list(dict.fromkeys(unknown))


def shown(characters: Iterable[str]) -> str:
    """Characters for a message: the first 20, those without a form by their number."""
    letters = list(characters)
    said = [c if c.isprintable() else f"U+{ord(c):04X}" for c in letters[:_SHOWN]]
    return " ".join(said + ["..."] * (len(letters) > _SHOWN))
