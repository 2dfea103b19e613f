"""An ear without a mind: it writes a word for every 0.32 s of loud sound.

Only the network is made up. Rows, codec, markers, flushes and the thread are the real
ones, so that a program's turns can be tested while no small model understands speech.
"""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

import mlx.core as mx

from moshi_mlx.documents.words import Word
from moshi_mlx.engines.owner import model_thread
from moshi_mlx.engines.stt.batch import STTBatch
from moshi_mlx.engines.stt.events import Event, Pauses, WordBegun
from moshi_mlx.engines.stt.rows import Frame
from moshi_mlx.serve.lazy import Lazy
from tests import listening

WORD_FRAMES = 4
QUIET_FRAMES = 3  # after which the speaker has paused
HEADS = 4


@dataclass
class LoudRow:
    """A sound: what waits, what was heard, what is told when the delay is over."""

    waiting: deque[Frame] = field(default_factory=deque)
    loud: int = 0
    quiet: int = QUIET_FRAMES
    words: int = 0
    late: deque[list[Event]] = field(default_factory=deque)


class LoudRows:
    """In the place of ``stt.rows.Rows``."""

    def __init__(self, rows: int, delay_frames: int):
        self._delay = delay_frames
        self.rows = [LoudRow() for _ in range(rows)]

    def begin(self, b: int) -> None:
        self.rows[b] = LoudRow()

    def step(self, stepped: Collection[int]) -> list[list[Event]]:
        return [
            self._hear(row) if b in stepped else [] for b, row in enumerate(self.rows)
        ]

    def finish(self, b: int) -> list[Event]:
        return [event for events in self.rows[b].late for event in events]

    def _hear(self, row: LoudRow) -> list[Event]:
        frame = row.waiting.popleft()
        row.loud = row.loud + 1 if frame.loud else 0
        row.quiet = 0 if frame.loud else row.quiet + 1
        now: list[Event] = []
        if row.loud == WORD_FRAMES:
            row.loud, row.words = 0, row.words + 1
            start_s = frame.end_s - WORD_FRAMES * 0.08
            text = f"word{row.words}"
            now = [WordBegun(text, start_s), Word(text, start_s, frame.end_s)]
        row.late.append(now)
        told = row.late.popleft() if len(row.late) > self._delay else []
        paused = float(row.quiet >= QUIET_FRAMES)
        return [Pauses(frame.end_s, (paused,) * HEADS), *told]


def loud_ears(rows: int = 1) -> Lazy[STTBatch]:
    """A listening model of so many places."""

    def make() -> STTBatch:
        stt = listening.listener()
        stt.owner = model_thread()
        mx.eval(stt.mimi.parameters())
        batch = STTBatch(stt, rows)
        batch.sounds = LoudRows(rows, batch.delay_frames)  # type: ignore[assignment]
        return batch

    return Lazy("loud-stt", lambda: model_thread().run(make))
