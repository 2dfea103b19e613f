"""Live sounds that share a listening model's steps: rows that come and go.

A step for eight sounds takes little longer than for one, since most of it is reading
the weights. A row's words do not depend on its neighbours.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median

import mlx.core as mx
import numpy as np

from ...audio.samples import Pcm
from ...codec import NativeCodec
from ..live_batch import LiveBatch, LiveRow
from ..row_codec import make_row_codec
from .events import Event
from .model import Recogniser
from .rows import FRAME_S, Frame, SoundRow, is_loud


@dataclass(frozen=True)
class Marker:
    """Everything that was said before the mark has been reported."""

    id: int


@dataclass(frozen=True)
class Flush:
    """Asks for everything that was said so far, before any more sound comes.

    Attributes:
        id: of the ``Marker`` to send after the last word; None sends none.
        last: whether the sound is over.
    """

    id: int | None = None
    last: bool = False


@dataclass(frozen=True)
class Restart:
    """Asks to forget the sound: the next sound is a new one."""


@dataclass(frozen=True)
class Heard:
    """A row's results in a step.

    Attributes:
        events: words, pauses, markers.
        more: whether the row has work left that needs no new sound.
        steps: number of the batch's steps so far.
        waiting: samples that were taken and not given to the model.
        ended: whether the sound is over and everything has been reported.
    """

    events: list[Event | Marker]
    more: bool
    ended: bool = False
    steps: int = 0
    waiting: int = 0


class STTRow(LiveRow["STTBatch"]):
    """One live sound; made by ``STTBatch.open``.

    Attributes:
        inbox: input for the row, in order: sound ``[S]`` (float32, the model's rate), a
            ``Marker`` to be echoed, a ``Flush``, a ``Restart``. Any thread may append.
    """

    inbox: deque[Pcm | Marker | Flush | Restart]

    def __init__(self, batch: "STTBatch", row: int):
        super().__init__(batch, row)
        self._begin()

    def _begin(self) -> None:
        self._heard = 0  # samples of the sound so far
        self._rest: Pcm = self.batch.listening.before
        self._at = -len(self._rest)  # first sample of the next frame
        self._queued = 0  # frames for the model, including our silence
        self._due: deque[tuple[int, Marker]] = deque()  # marks, by number of frames
        self._ending = False

    @property
    def waiting(self) -> deque[Frame]:
        """Frames that the model has not been given."""
        return self._sound.waiting

    @property
    def waiting_samples(self) -> int:
        """Samples that were taken from the inbox and not given to the model."""
        return len(self.waiting) * self.batch.frame_size + len(self._rest)

    @property
    def _sound(self) -> SoundRow:
        return self.batch.sounds.rows[self.row]

    def take(self) -> list[Pcm]:
        """The frames that the next thing in the inbox completes."""
        if not self.inbox:
            return []
        item = self.inbox.popleft()
        self._at = self._heard - len(self._rest)
        if isinstance(item, Marker):
            self._mark(item, self.batch.delay_frames)
            return []
        if isinstance(item, Flush):
            return self._flush(item)
        if isinstance(item, Restart):
            self.batch.renew(self.row)
            self._begin()
            return []
        self._heard += len(item)
        return list(self._cut(item))

    def queue(self, pcm: Pcm, codes: mx.array) -> None:
        """Queue a frame of sound for the model."""
        self._queued += 1
        self._at += len(pcm)
        rate = self.batch.stt.sample_rate
        span = (self._at - len(pcm), self._at)
        start_s, end_s = (min(max(at, 0), self._heard) / rate for at in span)
        self.waiting.append(Frame(codes, start_s, end_s, is_loud(pcm)))

    def heard(self, events: list[Event]) -> Heard:
        """The result of a step, from its events."""
        told: list[Event | Marker] = list(events)
        ended = self._ending and not self.waiting
        if ended:
            told += self.batch.sounds.finish(self.row)
        while self._due and self._queued - len(self.waiting) >= self._due[0][0]:
            told.append(self._due.popleft()[1])
        steps, waiting = self.batch.steps, self.waiting_samples
        return Heard(told, bool(self.waiting), ended, steps, waiting)

    def _cut(self, pcm: Pcm) -> Iterator[Pcm]:
        pcm = np.concatenate([self._rest, pcm])
        size = self.batch.frame_size
        whole = len(pcm) // size * size
        self._rest = pcm[whole:]
        yield from pcm[:whole].reshape(-1, size)

    def _mark(self, marker: Marker, after: int) -> None:
        """Echo a marker after ``after`` more frames than there are now."""
        self._due.append((self._queued + after, marker))

    def _flush(self, flush: Flush) -> list[Pcm]:
        """Frames of silence outside the sound's time, after which the last word is
        out."""
        self._ending = self._ending or flush.last
        size = self.batch.frame_size
        missing = size - len(self._rest) if len(self._rest) else 0
        silence = np.zeros(missing + self.batch.stt.flush_frames * size, np.float32)
        frames = list(self._cut(silence))
        if flush.id is not None:
            self._mark(Marker(flush.id), len(frames))
        return frames


class STTBatch(LiveBatch[STTRow, Heard]):
    """Live sounds on one model; see ``LiveBatch``.

    In a step it takes one thing from each row's inbox, and gives each its next frame.

    Args:
        stt: the model.
        rows: how many.
        joint_codec: see ``Batch``.

    Attributes:
        delay_frames: number of frames after which a word has been written.
    """

    def __init__(self, stt: Recogniser, rows: int, joint_codec: bool | None = None):
        super().__init__(stt.owner, rows, "listen", stt.residency)
        self.stt = stt
        self.frame_size = stt.mimi.frame_size
        self.delay_frames = ceil(stt.delay_s / FRAME_S)
        self.listening = stt.owner.run(stt.listening)
        self.sounds = stt.owner.run(lambda: stt.rows(rows, self.listening))
        self._codec = stt.owner.run(
            lambda: make_row_codec(
                lambda: NativeCodec(stt.mimi), rows, joint_codec, stt.lm
            )
        )

    def open(self) -> STTRow:
        """Start a new sound. Raises: NoPlace if all rows are taken."""
        self._check_open("batch.open")
        return self.owner.run(self._begin)

    def _begin(self) -> STTRow:
        row = self._free()
        self.renew(row)
        new = self._taken[row] = STTRow(self, row)
        return new

    def renew(self, row: int) -> None:
        """Make a row a new sound, on the model's thread."""
        self.sounds.begin(row)
        self._codec.begin(row)

    def _step(self, rows: Sequence[STTRow]) -> list[Heard]:
        rows_now = {row.row: row for row in rows if not row.closed}
        ahead = {b: deque(row.take()) for b, row in rows_now.items()}
        while now := {b: frames.popleft() for b, frames in ahead.items() if frames}:
            codes = self._codec.encode(now)
            for b, pcm in now.items():
                rows_now[b].queue(pcm, codes[b, : self.stt.lm.n_q])
        stepped = {b for b, row in rows_now.items() if row.waiting}
        events: list[list[Event]] = [[] for _ in range(self.rows)]
        if stepped:
            events = self.sounds.step(stepped)
            self.steps += 1
        return [
            Heard([], False, True) if row.closed else row.heard(events[row.row])
            for row in rows
        ]

    def warmup(self) -> float:
        """Step all rows a few times and discard the results; returns seconds of a full
        step."""
        rows = [self.open() for _ in range(self.rows)]
        silence = np.zeros(self.frame_size, np.float32)
        times = []
        for _ in range(6):
            for row in rows:
                row.inbox.append(silence)
            times.append(self.timed_step(rows))
        for row in rows:
            row.close()
        self.steps = 0
        return median(times[2:])

    def _rest(self, b: int) -> None:
        self.sounds.rows[b].waiting.clear()

    def _drop(self) -> None:
        super()._drop()
        del self.sounds, self._codec
