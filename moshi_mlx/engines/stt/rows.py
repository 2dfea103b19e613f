"""Listening to several sounds at once: frames queue up, tokens come out late.

A model writes a word with a delay. Each row keeps the frames of the last seconds, so
that it can be restarted without missing a word: its state is reset and those frames are
given again.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from math import ceil
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ...models.generate import LmGen
from ...models.lm import Lm
from ...models.snapshot import Fits
from ...utils.sampling import Sampler
from ...utils.text import Tokenizer
from ..keeping import as_tree, remember, remembered
from .bias import WordBias
from .events import EndOfTurn, Event, Pauses, Piece, Stalled
from .lead import read_leads
from .prompt import Prompts
from .reader import FRAME_S, PAD, WordReader
from .turns import TurnDetector

TURN_HEAD = 2  # the extra head that scores the end of a turn
REFRESH_PAUSE_S = 0.8  # without words: a good moment to restart
KEPT_S = 3.0  # frames kept beyond the delay
LOUD_RMS = 0.01  # full scale is 1
STALL_S = 10.0  # of sound without words
REMEMBERED = ("steps", "loud", "said_s", "heard_s")  # of a row, beside its parts
LATE_S = 1.0  # beyond the delay, until the last word is out


@dataclass(frozen=True)
class Frame:
    """Codes ``[K]`` of a frame, its part of the sound, and whether it is loud.

    Silence that is only there for the model takes no time: it starts where it ends. The
    codes of a live frame may still be computing: the model's step is built on them.
    """

    codes: NDArray[np.int32] | mx.array
    start_s: float
    end_s: float
    loud: bool = False


@dataclass
class SoundRow:
    """One sound: what waits, what was given, what was understood."""

    words: WordReader
    turns: TurnDetector = field(default_factory=TurnDetector)
    waiting: deque[Frame] = field(default_factory=deque)
    given: deque[Frame] = field(default_factory=deque)  # the newest, oldest first
    steps: int = 0  # frames given since the state was new
    loud: int = 0  # loud frames since the last piece of a word
    said_s: float = 0.0  # when the last piece came
    heard_s: float = 0.0  # up to where the sound was given


class Rows:
    """``B`` sounds on one model.

    Args:
        delay_s: delay from the end of a word to its text.
        refresh: restart at pauses once half the model's window is full, and anywhere
            before it is full; false keeps one state forever.
        phrases: words to expect, see ``WordBias``.
        lead: codes to hear first after each start: silence, a prompt's sound.
        prompt: text that is known to be said first, see ``Prompts``.
        aside: whether ``lead`` holds the prompt's sound, which is not reported.
    """

    def __init__(
        self,
        lm: Lm,
        tokenizer: Tokenizer,
        delay_s: float,
        batch_size: int = 1,
        refresh: bool = True,
        phrases: Sequence[str] = (),
        lead: Sequence[NDArray[np.int32]] = (),
        prompt: str = "",
        aside: bool = False,
    ):
        self._tokenizer = tokenizer
        self._lead = lead
        self._delay = ceil(delay_s / FRAME_S)
        self._bias = WordBias(tokenizer, phrases, batch_size) if phrases else None
        self._prompts = None
        if prompt.strip():
            before = len(lead) if aside else 0
            patience = before + self._delay + round(LATE_S / FRAME_S)
            self._prompts = Prompts(tokenizer, prompt, batch_size, before, patience)
        edited = self._bias is not None or self._prompts is not None
        self._gen = LmGen(
            lm,
            None,
            Sampler(0.0),
            Sampler(0.0),
            batch_size=batch_size,
            on_text_logits_hook=self._on_logits if edited else None,
            reserve=True,
        )
        self._refresh = refresh
        self._window = lm.cfg.transformer.context
        self._rounded_s = self._delay * FRAME_S - delay_s
        self._kept = self._delay + round(KEPT_S / FRAME_S)
        self._nothing = np.full(lm.n_q, -1, np.int32)
        self.rows = [SoundRow(WordReader(tokenizer)) for _ in range(batch_size)]
        self.refreshes = 0

    @property
    def waiting(self) -> bool:
        """Whether a step has something to do."""
        return any(row.waiting for row in self.rows)

    @property
    def fits(self) -> Fits:
        """What must be equal for a snapshot to be continued."""
        return self._gen.fits

    @property
    def state(self) -> dict[str, Any]:
        """The whole state of the sounds; may be set to that of other rows with the same
        model, prompt and phrases."""
        rows = [
            {
                **remembered(row, REMEMBERED),
                "waiting": as_tree(row.waiting),
                "given": as_tree(row.given),
                "words": row.words.state,
                "turns": remembered(row.turns, list(vars(row.turns))),
            }
            for row in self.rows
        ]
        return {
            "gen": self._gen.state,
            "rows": rows,
            "refreshes": self.refreshes,
            "bias": None if self._bias is None else self._bias.state,
            "prompts": None if self._prompts is None else self._prompts.state,
        }

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self._gen.state = state["gen"]
        self.refreshes = state["refreshes"]
        for row, kept in zip(self.rows, state["rows"], strict=True):
            remember(row, {name: kept[name] for name in REMEMBERED})
            row.waiting, row.given = (
                deque(_frame(frame) for frame in kept[name])
                for name in ("waiting", "given")
            )
            row.words.state = kept["words"]
            remember(row.turns, kept["turns"])
        if self._bias is not None and state["bias"] is not None:
            self._bias.state = state["bias"]
        if self._prompts is not None and state["prompts"] is not None:
            self._prompts.state = state["prompts"]

    @property
    def nbytes(self) -> int:
        """Bytes of the model's state."""
        return sum(layer.self_attn.nbytes for layer in self._gen.cache)

    def begin(self, b: int) -> None:
        """Make row ``b`` a new sound; the others continue. For rows without a
        prompt."""
        self.rows[b] = SoundRow(WordReader(self._tokenizer))
        if self._bias is not None:
            self._bias.heard(b, PAD)
        self._gen.reset([b])

    def step(self, only: Collection[int] | None = None) -> list[list[Event]]:
        """Give each row its next frame, if it has one; returns the events by row.

        Args:
            only: rows that may take part; all by default.
        """
        taking = range(len(self.rows)) if only is None else only
        events = self._take_leads([b for b in taking if self._is_fresh(b)])
        active = [bool(row.waiting) and b in taking for b, row in enumerate(self.rows)]
        if not any(active):
            return events
        fresh = [on and self._is_fresh(b) for b, on in enumerate(active)]
        if any(fresh):  # the first frame counts only the second time
            self._run(fresh)
        tokens, scores = self._run(active)
        for b, row in enumerate(self.rows):
            if active[b]:
                events[b] += self._took(b, row, tokens[b], scores[b])
        return events

    def _is_fresh(self, b: int) -> bool:
        return bool(self.rows[b].waiting) and self.rows[b].steps == 0

    def _take_leads(self, fresh: Sequence[int]) -> list[list[Event]]:
        """Read at once what new rows hear before their sound: see ``read_leads``."""
        leads = {b: self._silent(self.rows[b].waiting) for b in fresh}
        if self._prompts is not None:  # the model decides when to write its text
            leads = {}
        right, count = read_leads(self._gen, {b: c for b, c in leads.items() if c})
        events: list[list[Event]] = [[] for _ in self.rows]
        none = np.zeros(0, np.float32)
        for b in right:
            for _ in range(count):
                events[b] += self._took(b, self.rows[b], PAD, none)
        return events

    def _silent(self, waiting: Iterable[Frame]) -> list[NDArray[np.int32] | mx.array]:
        """The codes of the first frames that are not part of a sound."""
        apart = takewhile(lambda frame: frame.start_s == frame.end_s, waiting)
        return [frame.codes for frame in apart]

    def _on_logits(self, logits: mx.array) -> None:
        if self._bias is not None:
            self._bias.add_to(logits)
        if self._prompts is not None:
            self._prompts.restrict(logits)

    def _run(self, active: list[bool]) -> tuple[list[int], NDArray[np.float32]]:
        nothing = self._nothing
        codes = [r.waiting[0].codes if r.waiting else nothing for r in self.rows]
        given = _stacked(codes)
        text, heads = self._gen.step_with_extra_heads(given, active=active)
        paused = [head[:, 0, :1].astype(mx.float32) for head in heads]
        none = mx.zeros((len(active), 0))
        scores = mx.concatenate(paused, axis=1) if paused else none
        mx.eval(text, scores)
        return np.array(text[:, 0]).tolist(), np.array(scores)

    def _took(
        self, b: int, row: SoundRow, token: int, scores: NDArray[np.float32]
    ) -> list[Event]:
        """One row's events of a step."""
        frame = row.waiting.popleft()
        row.given.append(replace(frame, codes=np.array(frame.codes, np.int32)))
        row.steps += 1
        while len(row.given) > self._kept and not self._begins(b):
            row.given.popleft()
        if self._bias is not None:
            self._bias.heard(b, token)
        if self._prompts is not None:
            token = self._prompts.wrote(b, token)
        time_s = self._time_s(row)
        events = row.words.read(token, time_s)
        new = frame.end_s > row.heard_s  # not a repeated frame, nor our silence
        row.heard_s = max(row.heard_s, frame.end_s)
        if any(isinstance(event, Piece) for event in events):
            row.loud, row.said_s = 0, time_s
            row.turns.heard(time_s)
        elif new:
            row.loud += frame.loud
        if new:
            events += self._turn(row, scores, time_s)
        return events + self._listen_afresh(b, row, time_s)

    def _begins(self, b: int) -> bool:
        """Whether only the prompt's text may be written now."""
        return self._prompts is not None and self._prompts.begins(b)

    def _turn(
        self, row: SoundRow, scores: NDArray[np.float32], time_s: float
    ) -> list[Event]:
        """Pauses, which are reported at once, unlike words."""
        if not len(scores):
            ended = row.turns.pause(time_s)
            return [EndOfTurn(time_s)] if ended else []
        now_s = row.heard_s
        pauses = Pauses(now_s, tuple(scores.tolist()))
        head = min(TURN_HEAD, len(scores) - 1)
        ended = row.turns.score(float(scores[head]), now_s)
        return [pauses, EndOfTurn(now_s)] if ended else [pauses]

    def _time_s(self, row: SoundRow) -> float:
        """The time of the sound that the newest token describes."""
        if row.steps <= self._delay:
            return row.given[0].start_s
        told = row.given[-1 - self._delay].end_s + self._rounded_s
        return min(told, row.given[-max(self._delay, 1)].end_s)

    def finish(self, b: int) -> list[Event]:
        """Events of a row whose sound is over and was given completely."""
        row = self.rows[b]
        events = row.words.close(row.heard_s)
        ended = row.turns.end(row.heard_s)
        return [*events, EndOfTurn(row.heard_s)] if ended else events

    def _listen_afresh(self, b: int, row: SoundRow, time_s: float) -> list[Event]:
        """Restart a row if it is due; sound without text so far is kept."""
        stalled = row.loud * FRAME_S > STALL_S
        if stalled:
            row.loud = 0
        pausing = not row.words.open and time_s - row.said_s >= REFRESH_PAUSE_S
        half_full = row.steps >= self._window // 2 and row.steps > 2 * self._kept
        full = row.steps >= max(self._window, 4 * self._kept)
        if self._refresh and (full or stalled or (half_full and pausing)):
            from_s = time_s - REFRESH_PAUSE_S
            if row.words.open:  # it is heard again, with a little sound before it
                from_s = row.words.start_s - FRAME_S
            elif self._begins(b):  # the prompt kept everything else from being written
                from_s = 0.0
            self.restart(b, max(from_s, row.words.end_s))
        elif stalled and self._begins(b) and self._prompts is not None:
            self._prompts.give_up(b)
        return [Stalled(time_s)] if stalled else []

    def restart(self, b: int, from_s: float) -> None:
        """Restart; frames that end after ``from_s`` are given again."""
        row = self.rows[b]
        again = [frame for frame in row.given if frame.end_s > from_s]
        ahead = [*again, *row.waiting]
        start_s = ahead[0].start_s if ahead else row.words.end_s
        lead = [Frame(codes, start_s, start_s) for codes in self._lead]
        row.waiting.extendleft(reversed([*lead, *again]))
        row.given.clear()
        row.steps = 0
        row.words.forget()
        row.turns.restart()
        if self._prompts is not None:
            self._prompts.restart(b)
        self._gen.reset([b])
        self.refreshes += 1


def _stacked(codes: Sequence[NDArray[np.int32] | mx.array]) -> mx.array:
    """Codes ``[B, K]`` of rows ``[K]``."""
    if any(isinstance(row, mx.array) for row in codes):
        return mx.stack([mx.array(row) for row in codes])
    return mx.array(np.stack(codes))


def _frame(kept: Mapping[str, Any]) -> Frame:
    return Frame(**{**kept, "codes": np.array(kept["codes"], np.int32)})


def is_loud(pcm: NDArray[np.float32]) -> bool:
    """Whether somebody may be speaking."""
    return float(np.sqrt(np.mean(np.square(pcm)))) > LOUD_RMS
