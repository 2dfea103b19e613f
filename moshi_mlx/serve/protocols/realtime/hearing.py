"""The user's side of a session: sound in; turns, items and words out."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from ....audio.samples import Pcm
from ....documents.words import Word
from ....engines.stt.batch import Marker
from ....engines.stt.events import EndOfTurn, Pauses, WordBegun
from ...speech import Ears
from .items import Items
from .messages import BadEvent, EventFields, Tell, new_id
from .turns import LoudTurns, WordTurns, silence_s

_LEAST_S = 0.1  # the shortest sound that can be committed
_TRANSCRIPTION = "conversation.item.input_audio_transcription"


@dataclass
class _Item:
    """Something that the user said."""

    id: str = field(default_factory=lambda: new_id("item"))
    pieces: list[str] = field(default_factory=list)
    seconds: float = 0.0
    number: int = 0  # of its commit

    @property
    def transcript(self) -> str:
        return "".join(self.pieces).strip()

    def shown(self, status: str) -> dict[str, Any]:
        content = {"type": "input_audio", "transcript": self.transcript or None}
        return {
            "id": self.id,
            "object": "realtime.item",
            "type": "message",
            "role": "user",
            "status": status,
            "content": [content],
        }


class UserSide:
    """Cuts the user's speech into items.

    Args:
        tell: sends an event.
        items: of the conversation.
        ears: a listening model; None finds turns by loudness, and reads no words.
        detection: how turns are found; None if the client commits them.
        sample_rate: Hz of the sound to put.
        on_speech: called when the user starts to speak.
        silent: whether to leave the words out.
    """

    def __init__(
        self,
        tell: Tell,
        items: Items,
        ears: Ears | None,
        detection: EventFields | None,
        sample_rate: int,
        on_speech: Callable[[], Awaitable[None]] | None = None,
        silent: bool = False,
    ):
        self._tell_client, self._items = tell, items
        self._ears, self._rate = ears, sample_rate
        self._on_speech, self._silent = on_speech, silent
        self._item = _Item()
        self._waiting: deque[_Item] = deque()  # committed, waiting for their last words
        self._heard = 0  # samples
        self._since = 0.0  # seconds: start of the uncommitted sound
        self._now_s = 0.0  # time up to which the model has heard
        self._cleared_s = 0.0  # time at which the model started to hear
        self._commits = 0
        self._speaking = False
        self._begun = ""  # the reported part of the newest word
        self._renew(detection)

    def detect(self, detection: EventFields | None) -> None:
        """Find turns in this way from now on.

        The state of the turn is kept if the way is the same: clients send their
        settings again in the middle of a sentence.
        """
        if detection != self._detection:
            self._renew(detection)
            if self._speaking:  # so that this turn can still end
                self._words.word(self._now_s - self._cleared_s)

    def _renew(self, detection: EventFields | None) -> None:
        """Forget the state of the turn."""
        self._detection = detection
        self._finds_turns = detection is not None
        wanted_s = silence_s(detection)
        lengths_s = () if self._ears is None else self._ears.pause_lengths_s
        self._words = WordTurns(lengths_s, wanted_s)
        self._loud = LoudTurns(round(0.08 * self._rate), wanted_s)

    @property
    def _heard_s(self) -> float:
        return self._heard / self._rate

    async def put(self, pcm: Pcm) -> None:
        """Take samples ``[S]``."""
        self._heard += len(pcm)
        if self._ears is not None:
            await self._ears.put(pcm)
        elif self._finds_turns:
            for begins in self._loud.push(pcm):
                await (self._begin(self._heard_s) if begins else self._end())

    async def commit(self) -> None:
        """The client says that the user has finished.

        Raises: BadEvent if there is too little sound.
        """
        if self._heard_s - self._since < _LEAST_S:
            raise BadEvent(
                f"there is less than {1000 * _LEAST_S:g} ms of sound to commit: append "
                "more.",
                "input_audio_buffer_commit_empty",
            )
        await self._commit()

    async def clear(self) -> None:
        """Forget the uncommitted sound."""
        if self._ears is not None:
            await self._ears.restart()
        while self._waiting:
            await self._complete(self._waiting.popleft())
        self._item, self._since, self._speaking = _Item(), self._heard_s, False
        self._cleared_s = self._heard_s
        self._renew(self._detection)
        await self._tell_client("input_audio_buffer.cleared")

    async def run(self) -> None:
        """Report the model's events; ends with the session."""
        if self._ears is None:
            await asyncio.Event().wait()
            return
        async for event in self._ears:
            if isinstance(event, Pauses):
                self._now_s = self._cleared_s + event.time_s
                if self._words.pauses(event):
                    await self._end()
            elif isinstance(event, WordBegun):
                await self._hear(event)
            elif isinstance(event, Word):
                await self._add(event.text[len(self._begun) :])
            elif isinstance(event, EndOfTurn) and not self._ears.pause_lengths_s:
                await self._end()
            elif isinstance(event, Marker):  # including those of forgotten items
                while self._waiting and self._waiting[0].number <= event.id:
                    await self._complete(self._waiting.popleft())

    async def _hear(self, word: WordBegun) -> None:
        if not self._waiting:
            self._words.word(word.start_s)
            await self._begin(self._cleared_s + word.start_s)
        self._begun = word.text
        item = self._waiting[0] if self._waiting else self._item
        await self._add(f" {word.text}" if item.pieces else word.text)

    async def _add(self, text: str) -> None:
        """Report more of what the user said."""
        item = self._waiting[0] if self._waiting else self._item
        if not text:
            return
        item.pieces.append(text)
        if not self._silent:
            await self._tell_client(
                f"{_TRANSCRIPTION}.delta", item_id=item.id, content_index=0, delta=text
            )

    async def _begin(self, at_s: float) -> None:
        if not self._finds_turns or self._speaking:
            return
        self._speaking = True
        await self._tell_client(
            "input_audio_buffer.speech_started",
            item_id=self._item.id,
            audio_start_ms=round(1000 * at_s),
        )
        if self._on_speech is not None:
            await self._on_speech()

    async def end_turn(self) -> None:
        """The user has finished, if a turn is open."""
        self._loud.restart()
        await self._end()

    async def _end(self) -> None:
        if not self._finds_turns or not self._speaking:
            return
        self._speaking = False
        at_s = self._heard_s if self._ears is None else self._now_s or self._heard_s
        await self._tell_client(
            "input_audio_buffer.speech_stopped",
            item_id=self._item.id,
            audio_end_ms=round(1000 * at_s),
        )
        await self._commit()

    async def _commit(self) -> None:
        """Make an item of the sound so far; its last words come later."""
        item, self._item = self._item, _Item()
        item.seconds, self._since = self._heard_s - self._since, self._heard_s
        self._speaking = False
        await self._tell_client(
            "input_audio_buffer.committed",
            item_id=item.id,
            previous_item_id=self._items.last,
        )
        await self._items.add(item.shown("in_progress"))
        if self._ears is None:
            await self._complete(item)
        else:
            self._waiting.append(item)
            self._commits += 1
            item.number = self._commits
            await self._ears.flush(item.number)

    async def _complete(self, item: _Item) -> None:
        await self._items.finish(item.shown("completed"))
        if self._ears is not None and not self._silent:
            await self._tell_client(
                f"{_TRANSCRIPTION}.completed",
                item_id=item.id,
                content_index=0,
                transcript=item.transcript,
                usage={"type": "duration", "seconds": round(item.seconds, 3)},
            )
