"""Transcribing a sound while it arrives, for example from a microphone."""

from collections.abc import AsyncIterator, Iterable, Iterator

import numpy as np

from ...audio.resample import Resampler
from ...audio.samples import as_finite
from ...errors import AudioError
from ...models.snapshot import Fits, Snapshot, fingerprint, kept
from ..keeping import Keeping, remember, remembered
from ..owner import Owner
from .events import Event
from .model import Listening, Pcm, Recogniser
from .rows import Frame, is_loud

REMEMBERED = ("_rest", "_heard", "_at")


class STTSession(Keeping):
    """The transcription of one sound of any length, in constant memory.

    Its methods may be called from any thread, one at a time.

    Args:
        stt: the model.
        listening: its options.
        sample_rate: Hz of the sound to be fed; the model's by default.
    """

    def __init__(
        self, stt: Recogniser, listening: Listening, sample_rate: int | None = None
    ):
        self.stt = stt
        self.sample_rate = stt.sample_rate if sample_rate is None else sample_rate
        self._listening = listening
        self._start()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self.time_s:.1f} s heard"
        return f"<STTSession of {self.stt.name}: {state}>"

    def reset(self) -> None:
        """Forget everything: a new sound starts, at second 0."""
        self._check_open("reset")
        self.stt.owner.run(self._start)

    @property
    def time_s(self) -> float:
        """Seconds of sound so far."""
        return self._heard / self.stt.sample_rate

    @property
    def refreshes(self) -> int:
        """How often the model was restarted."""
        return self._rows.refreshes

    @property
    def nbytes(self) -> int:
        """Bytes of the state: the same after an hour as after a minute."""
        return self._rows.nbytes + self._codec_state.nbytes

    def feed(self, pcm: Pcm) -> list[Event]:
        """Transcribe ``pcm [S]``, any S; returns the new events.

        Raises: AudioError for other shapes, for samples that are neither float32 nor
            int16 nor int32, and for NaN or infinite ones; the session stays usable.
        """
        given = self._checked(pcm)
        return self.stt.owner.run(lambda: self._feed(given))

    async def afeed(self, pcm: Pcm) -> list[Event]:
        """Like ``feed``, for asyncio."""
        given = self._checked(pcm)
        return await self.stt.owner.arun(lambda: self._feed(given))

    def flush(self) -> list[Event]:
        """Transcribe everything that was said so far; more may be fed afterwards.

        For this the model hears silence, which does not count in the words' times.
        """
        self._check_open("flush")
        return self.stt.owner.run(self._flush)

    async def aflush(self) -> list[Event]:
        """Like ``flush``, for asyncio."""
        self._check_open("aflush")
        return await self.stt.owner.arun(self._flush)

    def listen(self, blocks: Iterable[Pcm]) -> Iterator[Event]:
        """Events of blocks of sound, up to the last word of the last block."""
        for block in blocks:
            yield from self.feed(block)
        yield from self.flush()

    async def alisten(self, blocks: AsyncIterator[Pcm]) -> AsyncIterator[Event]:
        """Like ``listen``, for asyncio."""
        async for block in blocks:
            for event in await self.afeed(block):
                yield event
        for event in await self.aflush():
            yield event

    @property
    def _fits(self) -> Fits:
        own = {"codec": fingerprint(self.stt.mimi), "sample_rate": self.sample_rate}
        return {**self._rows.fits, **own}

    def _keep(self) -> Snapshot:
        state = {
            **remembered(self, REMEMBERED),
            "rows": self._rows.state,
            "codec": self._codec_state.state,
            "resampler": None if self._resampler is None else self._resampler.state,
        }
        return Snapshot("transcription", self._fits, kept(state))

    def _go_on(self, snapshot: Snapshot) -> None:
        snapshot.check("transcription", self._fits)
        state = kept(snapshot.state)
        self._rows.state = state["rows"]
        self._codec_state.state = state["codec"]
        if self._resampler is not None:
            self._resampler.state = state["resampler"]
        remember(self, {name: state[name] for name in REMEMBERED})

    def _start(self) -> None:
        stt = self.stt
        self._rows = stt.rows(1, self._listening)
        self._codec_state = stt.mimi.make_state()
        self._resampler = None
        if self.sample_rate != stt.sample_rate:
            self._resampler = Resampler(self.sample_rate, stt.sample_rate)
        self._rest = self._listening.before
        self._heard = 0  # samples that were given, at the model's rate
        self._at = -len(self._rest)  # first sample of the next frame

    def _computed_by(self) -> Owner:
        return self.stt.owner

    def _drop(self) -> None:
        del self._rows, self._codec_state

    def _checked(self, pcm: Pcm) -> Pcm:
        self._check_open("feed")
        try:
            return as_finite(pcm)
        except AudioError as error:
            raise AudioError(f"feed: {error}") from None

    def _feed(self, pcm: Pcm) -> list[Event]:
        if self._resampler is not None:
            pcm = self._resampler.push(pcm[None])[0]
        self._heard += len(pcm)
        return self._take(pcm)

    def _flush(self) -> list[Event]:
        events: list[Event] = []
        if self._resampler is not None:
            pcm = self._resampler.flush()[0]
            self._heard += len(pcm)
            events += self._take(pcm)
        size = self.stt.mimi.frame_size
        if len(self._rest):
            events += self._take(np.zeros(-len(self._rest) % size, np.float32))
        self._at = self._heard
        for _ in range(self.stt.flush_frames):
            events += self._take(np.zeros(size, np.float32))
            self._at = self._heard
        return events + self._rows.finish(0)

    def _take(self, pcm: Pcm) -> list[Event]:
        size, rate = self.stt.mimi.frame_size, self.stt.sample_rate
        pcm = np.concatenate([self._rest, pcm.astype(np.float32, copy=False)])
        whole = len(pcm) // size * size
        self._rest = pcm[whole:]
        events: list[Event] = []
        for start in range(0, whole, size):
            part = pcm[start : start + size]
            codes = self.stt.start_encode(part[None, None], self._codec_state)[0, :, 0]
            times = [min(max(at, 0), self._heard) / rate for at in self._span(size)]
            frame = Frame(codes, times[0], times[1], is_loud(part))
            self._rows.rows[0].waiting.append(frame)
            while self._rows.waiting and self._at > 0:  # sound before it, at once
                events += self._rows.step()[0]
        return events

    def _span(self, size: int) -> tuple[int, int]:
        """First sample of the next frame, and the one after it."""
        self._at += size
        return self._at - size, self._at
