"""From the text tokens of speech recognition to words with times.

A token 0 marks the start of a word; the tokens up to the next one are usually the
pieces of one word. Source: kyutai-labs/delayed-streams-modeling, timestamps of its
scripts.
"""

from collections.abc import Mapping
from typing import Any

from ...documents.words import Word
from ...utils.text import PieceReader, Tokenizer
from ..keeping import remember, remembered
from .events import Event, Piece, WordBegun

BEGINS_WORD = "▁"
PAD, BOUNDARY = 3, 0
FRAME_S = 0.08  # time per token between two marks with several words
REMEMBERED = (
    "_text",
    "_count",
    "_start_s",
    "_last_s",
    "_boundary_s",
    "_begun",
    "end_s",
)
TAIL_S = 1.0  # a word ends at most this long after its last piece


class WordReader:
    """Turns one sound's tokens into events; times never run backwards."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._pieces = PieceReader(tokenizer)
        self._text = ""
        self._count = 0  # tokens of the open word
        self._start_s = 0.0
        self._last_s = 0.0  # time of the open word's last piece
        self._boundary_s: float | None = None
        self._begun = False  # whether the open word was reported as a whole
        self.end_s = 0.0  # of the last word

    @property
    def state(self) -> dict[str, Any]:
        """What has been read so far; may be set to another reader's."""
        return {**remembered(self, REMEMBERED), "pieces": self._pieces.state}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self._pieces.state = state["pieces"]
        remember(self, {name: state[name] for name in REMEMBERED})

    @property
    def open(self) -> bool:
        """Whether a word has started and not ended."""
        return bool(self._text)

    @property
    def start_s(self) -> float:
        """The start of the open word, or of what follows the last one."""
        return self._start_s if self.open else self.end_s

    def read(self, token: int, time_s: float) -> list[Event]:
        """Read a token; ``time_s`` is the end of the sound that it describes."""
        if token == BOUNDARY:
            events = self.close(time_s)
            self._boundary_s = time_s
            return events
        if token <= PAD:
            events: list[Event] = self._announce()
            if self.open and time_s - self._last_s >= TAIL_S:
                events += self.close(self._last_s + TAIL_S)
            return events
        return self._piece(token, time_s)

    def close(self, time_s: float) -> list[Event]:
        """End the open word, at ``time_s`` or a little after its last piece."""
        events = self._announce()
        self._boundary_s = None
        if not self.open:
            return events
        end_s = round(max(min(time_s, self._last_s + TAIL_S), self._start_s), 3)
        events.append(Word(self._text.strip(), self._start_s, end_s))
        self.end_s = end_s
        self.forget()
        return events

    def forget(self) -> None:
        """Drop the open word."""
        self._pieces.read(PAD)
        self._text, self._count, self._begun = "", 0, False
        self._boundary_s = None

    def _announce(self) -> list[Event]:
        if not self.open or self._begun:
            return []
        self._begun = True
        return [WordBegun(self._text.strip(), self._start_s)]

    def _piece(self, token: int, time_s: float) -> list[Event]:
        text, events = self._pieces.read(token), []
        begins = self._tokenizer.id_to_piece(token).startswith(BEGINS_WORD)
        if begins and self.open:
            # Several words between two boundaries: each gets a frame per token.
            end_s = min(self._start_s + self._count * FRAME_S, time_s)
            events += self.close(end_s)
            self._boundary_s = end_s
        if not self.open:
            before_s = time_s - FRAME_S
            start_s = before_s if self._boundary_s is None else self._boundary_s
            self._start_s = round(max(start_s, self.end_s, 0.0), 3)
        self._text += text
        self._count += 1
        self._last_s = max(time_s, self._start_s)
        return [*events, Piece(text)] if text else events
