"""One speech for a client: text in, sound back."""

from collections.abc import AsyncIterator
from time import perf_counter

from ..audio.samples import Pcm
from ..documents.words import Word
from ..engines.thread import ModelThread
from ..engines.tts.batch import Spoken, TTSBatch, TTSRow
from ..engines.tts.live_voice import LiveVoice
from ..errors import ConfigError
from .live_stream import LiveStream
from .tally import Tally

MOST_WAITING = 1_000_000  # most characters that the model has not read


class Voice(LiveStream[Spoken]):
    """One speech: iterating gives its frames ``[1920]``, faster than real time.

    Frames come as soon as they can be said; 30 seconds may wait to be read.

    Attributes:
        sample_rate: Hz of the frames.
        words: words that have ended so far, with their times in the sound.
    """

    def __init__(self, thread: ModelThread, batch: TTSBatch, row: TTSRow, tally: Tally):
        super().__init__(thread, batch, row, tally)
        self._row, self._batch = row, batch
        self.sample_rate = int(batch.tts.mimi.sample_rate)
        self.words: list[Word] = []
        self._began: float | None = None
        self._sounded = False
        self._given = 0  # characters

    async def put(self, text: str) -> None:
        """Take more text; a word ends at white space, a piece may end within one.

        Raises: ConfigError if too much waits to be read.
        """
        if self._began is None and text.strip():
            self._began = perf_counter()
        self._given += len(text)
        if self._given - self._row.read_chars > MOST_WAITING:
            raise ConfigError(
                f"more than {MOST_WAITING:,} characters of text wait to be read: send "
                "text as it is spoken."
            )
        self._row.inbox.append(text)
        self._tick()

    async def finish(self) -> None:
        """End the text: the iteration ends with the last word."""
        self._row.inbox.append(None)
        self._tick()

    async def change(self, voice: LiveVoice) -> None:
        """Speak with another voice, before the first text."""
        owner = self._batch.tts.owner
        await owner.arun(lambda: self._batch.change(self._row, voice))

    async def pieces(self) -> AsyncIterator[Spoken]:
        """Frames with the words that have ended; either may be missing.

        Raises: ConfigError for a tag in the text that is not understood.
        """
        ended = False
        while not ended:
            spoken = await self._next()
            ended = spoken.ended
            if spoken.error is not None:
                raise spoken.error
            self.words += spoken.words
            if spoken.pcm is not None and not self._sounded and self._began:
                self._sounded = True
                self._tally.first.observe(perf_counter() - self._began)
            if spoken.pcm is not None or spoken.words:
                yield spoken

    async def __aiter__(self) -> AsyncIterator[Pcm]:
        async for spoken in self.pieces():
            if spoken.pcm is not None:
                yield spoken.pcm
