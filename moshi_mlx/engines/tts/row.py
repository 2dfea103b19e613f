"""One speech of a run: its position, and the recording that it continues."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

from ...errors import ConfigError
from ..keeping import as_tree, remember, remembered
from .machine import Entry, State

MOST_UNSAID = 400_000  # tokens that may wait to be said: ten hours of speech
REMEMBERED = ("offset", "audio_prefix", "resting")


@dataclass
class SpeechRow:
    """One speech of a run.

    Attributes:
        state: the machine's state.
        offset: steps taken.
        logged: (predicted, read) text of each step.
        text_prefix: text that is read before the machine's.
        audio_prefix: codes ``[K, T]`` that are said unchanged; -2 elsewhere.
        resting: whether the row is paused.
        given: number of tokens of all text so far.
    """

    state: State
    offset: int = 0
    logged: list[tuple[int, int]] = field(default_factory=list)
    text_prefix: deque[int] = field(default_factory=deque)
    audio_prefix: mx.array | None = None
    resting: bool = False
    given: int = 0

    def add(self, entries: Sequence[Entry]) -> None:
        """Take more to say.

        Raises: ConfigError if too much waits. A step says one token at most, so
            whatever was given and not stepped through is waiting.
        """
        self.given += sum(len(entry.tokens) for entry in entries)
        if self.given - self.offset > MOST_UNSAID:
            raise ConfigError(
                f"more than {MOST_UNSAID:,} tokens of text wait to be said: send text "
                "as it is spoken."
            )
        self.state.entries.extend(entries)

    @property
    def kept(self) -> dict[str, Any]:
        """The whole state of the speech, for a ``Snapshot``."""
        own = {"text_prefix": as_tree(self.text_prefix), "machine": as_tree(self.state)}
        return {**remembered(self, REMEMBERED), **own}

    @kept.setter
    def kept(self, kept: Mapping[str, Any]) -> None:
        remember(self, {name: kept[name] for name in REMEMBERED})
        self.text_prefix = deque(kept["text_prefix"])
        machine = dict(kept["machine"])
        entries = deque(Entry(**entry) for entry in machine.pop("entries"))
        words = [(text, step) for text, step in machine.pop("transcript")]
        self.state.entries, self.state.transcript = entries, words
        remember(self.state, machine)
