"""The text of one speech as it arrives: which words may be said now, and their times.

A word is said once as many more have arrived as the model reads ahead, or at the end of
the text. When text is missing the speech waits instead of pausing: the sound continues
without a gap.
"""

import logging
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ...documents.words import Word
from ..keeping import remember, remembered
from .machine import Entry, State
from .model import SpeechModel
from .script import ScriptReader, shown, without_unknown

logger = logging.getLogger(__name__)
REMEMBERED = ("finished", "_unknown")


class Wording:
    """Text in, entries for the machine out.

    Args:
        tts: the model and its settings.
        padding_between: see ``ScriptReader``.

    Attributes:
        finished: whether no more text will come.
    """

    def __init__(self, tts: SpeechModel, padding_between: int = 1):
        self.finished = False
        self._tts = tts
        self._unknown: set[str] = set()  # characters that a warning has named
        self._reader = ScriptReader(
            tts.tokenizer,
            tts.machine.token_ids,
            tts.mimi.frame_rate,
            tts.multi_speaker,
            padding_between,
            self._spelt,
        )

    @property
    def state(self) -> dict[str, Any]:
        """The state; may be set to another's."""
        return {**remembered(self, REMEMBERED), "reader": self._reader.state}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._reader.state = state["reader"]
        remember(self, {name: state[name] for name in REMEMBERED})

    def feed(self, text: str) -> list[Entry]:
        """The entries that a piece of text completes; a word ends at white space.

        Raises: ConfigError for a tag that is not understood, and for half characters.
        """
        return self._reader.feed(text)

    def turn(self, index: int) -> list[Entry]:
        """Start turn ``index``; odd ones are the other speaker's."""
        return self._reader.turn(index)

    def finish(self) -> list[Entry]:
        """End the text; returns the last word."""
        self.finished = True
        return self._reader.flush()

    def may_step(self, state: State) -> bool:
        """Whether the next step would be the same if all the text were here."""
        if self.finished or state.queued or state.forced_padding:
            return True  # no entry can be taken now
        if not state.entries:
            return False
        if not state.entries[0].tokens:
            return True
        ahead = self._tts.machine.second_stream_ahead
        return not ahead or bool(state.get_tokens_ahead(ahead + 1))

    def words(self, state: State, offset: int, prefix_steps: int) -> Sequence[Word]:
        """The words taken so far; the last one ends where the next will start.

        Args:
            offset: steps taken.
            prefix_steps: steps of a recording that is continued.
        """
        rate = self._tts.mimi.frame_rate
        last = offset if state.end_step is None else state.end_step
        times = [*state.consumption_times, last]
        ends = dict(pairwise(times))

        def second(step: int) -> float:
            return round((step - prefix_steps) / rate, 3)

        return [
            Word(text, second(step), second(ends[step]))
            for text, step in state.transcript
        ]

    def _spelt(self, word: str) -> str:
        """A word without the characters that the model has no tokens for."""
        word, unknown = without_unknown(self._tts.tokenizer, word)
        if new := [letter for letter in unknown if letter not in self._unknown]:
            self._unknown.update(new)
            logger.warning("the model cannot say %s: left out", shown(new))
        return word
