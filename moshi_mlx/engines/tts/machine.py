"""Decides what text a speaking model reads: one token in, one token out, per step.

The model predicts when a word should start. The machine then takes the next word from
its queue and feeds the word's tokens over the following steps. It is plain Python: no
arrays, no model. Source: kyutai-labs/moshi, models/tts.py:StateMachine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mlx.core as mx


@dataclass
class TokenIds:
    """The special tokens.

    Attributes:
        card: text vocabulary with the initial token; two streams share one id as
            ``(second + 1) * card + first``.
        new_word: a word starts.
        pad: nothing happens.
        main, other: a turn of the first or the second speaker starts.
        zero: embedded as zero.
        ungenerated: to be generated.
    """

    card: int
    new_word: int = 0
    pad: int = 3
    main: int = 1
    other: int = 2
    zero: int = -1
    ungenerated: int = -2


@dataclass
class Entry:
    """One word to say, or a break if it has no tokens.

    Attributes:
        tokens: of the word.
        text: the word as written.
        padding: steps after its start in which no other word may start.
        audio_tokens: kept for moshi_mlx 0.3.0's signature; not read.
    """

    tokens: list[int]
    text: str
    padding: int = 0
    audio_tokens: mx.array | None = None


@dataclass
class State:
    """The state of one speech.

    Attributes:
        entries: still to be said.
        remaining_padding: steps of padding that the model may still choose.
        forced_padding: steps of padding that must come.
        queued: remaining tokens of the current word.
        lookahead_queued: tokens of a later word, fed beside it.
        end_step: the step in which a word was wanted and none was left.
        consumption_times: step at which each entry was taken.
        transcript: each word with its step.
    """

    entries: deque[Entry]
    remaining_padding: int
    forced_padding: int
    queued: deque[int] = field(default_factory=deque)
    lookahead_queued: deque[int] = field(default_factory=deque)
    end_step: int | None = None
    consumption_times: list[int] = field(default_factory=list)
    transcript: list[tuple[str, int]] = field(default_factory=list)

    def get_tokens_ahead(self, lookahead: int) -> list[int]:
        """Tokens of the ``lookahead``-th (from 1) word in the queue; none beyond its
        end."""
        for entry in self.entries:
            if entry.tokens:
                lookahead -= 1
                if lookahead == 0:
                    return entry.tokens
        return []


@dataclass
class StateMachine:
    """Turns the model's predictions into the text that it reads.

    Args:
        token_ids: special tokens.
        second_stream_ahead: number of words that the second text stream is ahead; 0 for
            no second stream.
        max_padding: longest run of padding steps that the model may choose.
        initial_padding: steps of padding before the first word.
    """

    token_ids: TokenIds
    second_stream_ahead: int = 0
    max_padding: int = 6
    initial_padding: int = 2

    def new_state(self, entries: Iterable[Entry]) -> State:
        """The state of a speech that has not started."""
        return State(
            entries=deque(entries),
            remaining_padding=self.initial_padding,
            forced_padding=self.initial_padding,
        )

    def process(
        self, step: int, state: State, token: int | Sequence[int]
    ) -> tuple[int, bool]:
        """Take one step.

        Args:
            step: its number.
            state: changed in place.
            token: the model's prediction, also as a list of one (as 0.2.12's hooks
                passed it).

        Returns: the token to read next, and whether it starts a word.
        """
        predicted = token[0] if isinstance(token, Sequence) else token
        word, starts = self._wants_word(state, predicted), False
        if word and state.entries:
            starts = word = self._take(step, state)
        elif word:
            # The first word wanted past the end is announced, if a stream can.
            word = bool(self.second_stream_ahead) and state.end_step is None
            if state.end_step is None:
                state.end_step = step
        if not word:
            state.remaining_padding = max(state.remaining_padding - 1, 0)
            state.forced_padding = max(state.forced_padding - 1, 0)
        return self._output(state, word), starts

    def _wants_word(self, state: State, predicted: int) -> bool:
        if state.queued or state.forced_padding > 0:
            return False
        return state.remaining_padding <= 0 or predicted == self.token_ids.new_word

    def _take(self, step: int, state: State) -> bool:
        """Take the next entry; false for a break, which is only padding."""
        entry = state.entries.popleft()
        state.consumption_times.append(step)
        state.forced_padding = entry.padding
        if not entry.tokens:
            return False
        state.transcript.append((entry.text, step))
        state.queued.extend(entry.tokens)
        if self.second_stream_ahead:
            ahead = state.get_tokens_ahead(self.second_stream_ahead)
            state.lookahead_queued.extend(ahead)
        state.remaining_padding = self.max_padding
        return True

    def _output(self, state: State, word: bool) -> int:
        ids = self.token_ids
        if not self.second_stream_ahead:
            if word:
                return ids.new_word
            return state.queued.popleft() if state.queued else ids.pad
        # The second stream announces the start of a word, so that the first can carry
        # the word's first token in the same step.
        first = state.queued.popleft() if state.queued else ids.pad
        if word or first == ids.new_word:
            second = ids.new_word
            if not word:  # a token of the word that happens to be new_word's id
                first = state.queued.popleft() if state.queued else ids.pad
        elif state.lookahead_queued:
            second = state.lookahead_queued.popleft()
        else:
            second = ids.zero
        return (second + 1) * ids.card + first
