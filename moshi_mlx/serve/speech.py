"""The engines that listen, speak, translate and write, as the protocols see them.

``Ears`` and ``Voice`` are used in the same way: put something in, iterate over the
results, close (or use ``async with``). Each is a row of a batch that the model thread
steps; closing frees the row within a step. A protocol needs nothing else of models.
"""

import asyncio
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from ..audio.long import LongSound
from ..audio.samples import Pcm
from ..engines.duplex.batch import Batch
from ..engines.duplex.engine import Moshi
from ..engines.duplex.response import Response
from ..engines.duplex.session import DuplexSession
from ..engines.stt.batch import STTBatch
from ..engines.stt.events import Event
from ..engines.stt.files import alisten
from ..engines.stt.model import Sound
from ..engines.stt.transcript import Transcript
from ..engines.text import TextModel
from ..engines.thread import ModelThread
from ..engines.tts.batch import Spoken, TTSBatch
from ..errors import MoshiError, NoPlace, NotServed
from .ears import Ears
from .interpreter import Interpreter
from .kept_voices import KeptVoices
from .languages import languages_of
from .lazy import Lazy
from .tally import PostTally, Tally
from .voice import Voice
from .voices import VoiceName, Voices

_log = logging.getLogger(__name__)
_RETRY_S = 0.1
MOST_JOBS = 4  # files at a time; they take turns on the model's thread


@dataclass(frozen=True)
class Offer:
    """A model that is served, as other programs list it.

    Attributes:
        name: of the model.
        voices: the voices that can be requested, as far as they are known without
            loading it; the first is the usual one.
    """

    name: str
    voices: Sequence[str] = ()

    @property
    def languages(self) -> Sequence[str]:
        """That it knows, as in "en"."""
        return languages_of(self.name)


class SpeechService:
    """The models of a server that are not conversations; each may be missing.

    Args:
        stt, tts, translate: batches of live rows; the last one's model is a Hibiki.
        text: a model that continues texts.
        voice_map: clients' names for voices, and the voices that they mean.
        jobs: number of files that may be processed at a time.
        kept: the folder for named voices that clients make; None keeps none.

    Attributes:
        voices: of the model that speaks.
        heard, said: counts of the batches.
        cloned: counts of the voices made from recordings.
    """

    def __init__(
        self,
        thread: ModelThread | None = None,
        stt: Lazy[STTBatch] | None = None,
        tts: Lazy[TTSBatch] | None = None,
        translate: Lazy[Batch] | None = None,
        text: Lazy[TextModel] | None = None,
        voice_map: Mapping[str, str] | None = None,
        jobs: int = MOST_JOBS,
        kept: KeptVoices | None = None,
    ):
        self._thread = thread
        self.stt, self.tts, self.translate, self.text = stt, tts, translate, text
        self.voice_map = dict(voice_map or {})
        self.heard, self.said = Tally("asr"), Tally("py")
        self.cloned = PostTally()
        self.voices = Voices(self.speaking, kept)
        self._jobs, self._busy = jobs, 0

    @property
    def hears(self) -> Offer | None:
        """The model that listens, or None."""
        return None if self.stt is None else Offer(self.stt.name)

    @property
    def says(self) -> Offer | None:
        """The model that speaks, or None."""
        if self.tts is None:
            return None
        return Offer(self.tts.name, voices=self.voices.known)

    async def listening(self) -> STTBatch:
        """The model that listens. Raises: NotServed if there is none."""
        return await _needed(self.stt, "listens", "--stt").get()

    async def speaking(self) -> TTSBatch:
        """The model that speaks. Raises: NotServed if there is none."""
        return await _needed(self.tts, "speaks", "--tts").get()

    async def translating(self) -> Batch:
        """The model that translates. Raises: NotServed if there is none."""
        return await _needed(self.translate, "translates", "--translate").get()

    async def writing(self) -> TextModel:
        """The model that writes. Raises: NotServed if there is none."""
        return await _needed(self.text, "writes", "--text").get()

    def load(self) -> None:
        """Load every model now, before the server runs."""
        for model in (self.stt, self.tts, self.translate, self.text):
            if model is not None:
                model.load()
        if self.tts is not None:
            try:
                asyncio.run(self.voices.find())
            except MoshiError as error:  # each client gets it in its own form
                _log.warning("the usual voice cannot be loaded: %s", error)

    async def listen(self, wait_s: float = 0.0) -> Ears:
        """Ears for a sound that is being said.

        Args:
            wait_s: how long to wait for a place.

        Raises: NoPlace if all places are taken; NotServed without a model.
        """
        batch = await self.listening()
        owner = batch.stt.owner
        row = await _tried(lambda: owner.arun(batch.open), wait_s)
        assert self._thread is not None
        return Ears(self._thread, batch, row, self.heard)

    async def speak(
        self,
        voice: VoiceName | None = None,
        wait_s: float = 0.0,
        seed: int | None = None,
    ) -> Voice:
        """A voice for a text that arrives.

        Args:
            voice: its name; the usual one by default.
            wait_s: how long to wait for a place.
            seed: the same seed gives the same speech; None draws one.

        Raises: as ``listen``; CheckpointError, AudioError or ConfigError for a voice
            that cannot be used.
        """
        batch = await self.speaking()
        ready = await self.voices.find(voice)
        owner = batch.tts.owner
        row = await _tried(lambda: owner.arun(lambda: batch.open(ready, seed)), wait_s)
        assert self._thread is not None
        return Voice(self._thread, batch, row, self.said)

    async def interpret(self) -> Interpreter:
        """Ears and mouth for a speech that is translated while it is said.

        Raises: as ``listen``.
        """
        batch = await self.translating()

        def begin() -> DuplexSession:
            if not batch.free:
                raise NoPlace(f"all {batch.rows} places to translate are taken.")
            return batch.open(first="twice")

        session = await _tried(lambda: batch.moshi.owner.arun(begin), wait_s=0.0)
        assert self._thread is not None
        return Interpreter(self._thread, batch, session)

    @contextmanager
    def job(self) -> Iterator[None]:
        """A place to process a file. Raises: NoPlace if all are taken."""
        if self._busy >= self._jobs:
            raise NoPlace(f"{self._jobs} files are being worked on: try later.")
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1

    async def samples(self, path: Path) -> Pcm | LongSound:
        """The sound of a file. Raises: AudioError if it cannot be read."""
        batch = await self.listening()
        return await asyncio.to_thread(batch.stt.samples, path)

    async def transcribing(
        self, sound: Sound, **options: Any
    ) -> AsyncGenerator[Event, None]:
        """The events of a file; live sounds go first.

        Args:
            options: ``phrases``, ``prompt`` ..., see ``Recogniser.listening``.
        """
        batch = await self.listening()
        async with aclosing(alisten(batch.stt, sound, **options)) as heard:
            async for event in heard:
                yield event

    async def transcribe(self, sound: Pcm | LongSound, **options: Any) -> Transcript:
        """The words of a file, see ``transcribing``."""
        rate = (await self.listening()).stt.sample_rate
        async with aclosing(self.transcribing(sound, **options)) as heard:
            events = [event async for event in heard]
        return Transcript.of(events, len(sound) / rate)

    async def translated(self, path: Path) -> Response:
        """What a model says of a file, while live streams go first.

        Raises: AudioError for one that cannot be read; NotServed without a model.
        """
        moshi = (await self.translating()).moshi
        assert isinstance(moshi, Moshi)
        return await moshi.arespond(path)

    async def written(
        self, prompt: str, max_tokens: int, **options: Any
    ) -> AsyncGenerator[str, None]:
        """The continuation of a text, a piece for every token; live streams go first.

        Args:
            options: ``temp``, ``top_p``, ``seed``, see ``TextModel.session``.
        """
        model = await self.writing()

        def steps() -> Iterator[str]:
            with model.session(prompt, **options) as session:
                while session.read():
                    yield ""
                yield from session.write(max_tokens)

        async with aclosing(model.owner.aiterate(steps)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                yield piece

    async def spoken(
        self, text: str, voice: VoiceName | None = None, wait_s: float = 0.0
    ) -> AsyncIterator[Spoken]:
        """A complete text, spoken: frames and words, see ``Voice.pieces``."""
        async with await self.speak(voice, wait_s) as speaking:
            await speaking.put(text)
            await speaking.finish()
            async for piece in speaking.pieces():
                yield piece


T = TypeVar("T")


def _needed(lazy: Lazy[T] | None, does: str, option: str) -> Lazy[T]:
    if lazy is None:
        raise NotServed(
            f"this server has no model that {does}: start it with {option} MODEL."
        )
    return lazy


async def _tried(attempt: Callable[[], Any], wait_s: float) -> Any:
    """The row that ``attempt`` opens, retried while there is no place.

    A row that is opened for a client that has left meanwhile is freed.
    """
    until = perf_counter() + wait_s
    while True:
        opening = asyncio.ensure_future(attempt())
        try:
            return await asyncio.shield(opening)
        except NoPlace:
            if perf_counter() >= until:
                raise
        except asyncio.CancelledError:
            opening.add_done_callback(_free)
            raise
        await asyncio.sleep(_RETRY_S)


def _free(opened: "asyncio.Future[Any]") -> None:
    if not opened.cancelled() and opened.exception() is None:
        opened.result().close_soon()
