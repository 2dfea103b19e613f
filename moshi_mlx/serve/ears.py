"""One sound that a client sends; its events come back."""

from collections import deque
from collections.abc import AsyncIterator
from time import perf_counter

from ..audio.framing import Framer
from ..audio.samples import Pcm, as_finite
from ..engines.stt.batch import Flush, Heard, Marker, Restart, STTBatch, STTRow
from ..engines.stt.events import Event, Pauses
from ..engines.thread import ModelThread
from .live_stream import TICK, LiveStream
from .tally import Tally

Flushed = Marker  # everything that was said before it has been reported


class Ears(LiveStream[Heard]):
    """One sound while it is being said: iterating over it gives its events.

    Events are those of ``engines.stt.events``, and a ``Flushed`` for every mark. The
    ``Pauses`` of a frame come before its other events; there is one for every frame of
    80 ms if the model scores pauses.

    Attributes:
        sample_rate: Hz of the sound to put.
        delay_s: how long after a word it is known.
        pause_lengths_s: the lengths that the probabilities of ``Pauses`` stand for.
        heard: the step of the newest event: the count of the model's steps, and the
            samples that wait.
    """

    def __init__(self, thread: ModelThread, batch: STTBatch, row: STTRow, tally: Tally):
        super().__init__(thread, batch, row, tally)
        self._row = row
        self._framer = Framer(batch.frame_size)
        self._flushing: deque[tuple[int | None, float]] = deque()  # ids, start times
        self.sample_rate = batch.stt.sample_rate
        self.delay_s = batch.stt.delay_s
        self.pause_lengths_s = batch.stt.pause_lengths_s
        self.heard = Heard([], more=False)

    async def put(self, pcm: Pcm) -> None:
        """Take ``pcm [S]`` (float32, int16), any S; waits if a minute already waits.

        Raises: AudioError if it is not sound.
        """
        for frame in self._framer.push(as_finite(pcm)):
            await self._give(frame)

    async def mark(self, id: int) -> None:
        """Ask for ``Flushed(id)`` after the words so far; it needs more sound."""
        await self._give(Marker(id))

    async def flush(self, id: int | None = None, last: bool = False) -> None:
        """Report everything said so far, then ``Flushed(id)`` if there is an id.

        Args:
            last: no more sound will come: the iteration ends.
        """
        if self._framer.pending:
            rest = self._framer.flush()
            assert rest is not None
            await self._give(rest)
        if id is not None or last:
            self._flushing.append((id, perf_counter()))
        await self._give(Flush(id, last))

    async def end(self) -> None:
        """End the sound: the iteration ends with the last word."""
        await self.flush(last=True)

    async def restart(self) -> None:
        """Forget the sound: the next one is new."""
        self._framer = Framer(self._framer.size)
        self._flushing.clear()
        await self._give(Restart())

    async def _give(self, item: Pcm | Marker | Flush | Restart) -> None:
        self._row.inbox.append(item)
        await self._line.aput(TICK)

    async def __aiter__(self) -> AsyncIterator[Event | Flushed]:
        while not self.heard.ended:
            heard = await self._next()
            self.heard = heard
            self._note(heard)
            for event in sorted(heard.events, key=_rank):
                yield event

    def _note(self, heard: Heard) -> None:
        """Record the time of flushes whose last words have come."""
        told = [event.id for event in heard.events if isinstance(event, Marker)]
        while self._flushing and (heard.ended or told):
            id, since = self._flushing[0]
            if not heard.ended and told.pop(0) != id:
                continue
            self._flushing.popleft()
            self._tally.final.observe(perf_counter() - since)


def _rank(event: Event | Marker) -> int:
    return 0 if isinstance(event, Pauses) else 1
