"""Moshi's side of a session, cut into responses.

Moshi speaks and is silent as it likes. A response opens when it speaks, and closes when
it pauses or the user starts to speak.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from ....engines.duplex.reply import Reply
from ....engines.stt.rows import is_loud
from ...sounds import SampleWriter
from .items import Items
from .messages import BadEvent, Tell, coded, new_id
from .session import RealtimeSession

PAUSE_FRAMES = 12  # without sound or words: 0.96 s
PATIENCE_FRAMES = 50  # for a requested response to start: 4 s
_QUIET_FRAMES = 4  # after which Moshi counts as interrupted


class Responses:
    """Opens and closes responses.

    Args:
        tell: sends an event.
        session: its output format when a response opens is used.
        items: of the conversation.
        sample_rate: Hz of Moshi's sound.

    Attributes:
        on_open: called before a response opens because Moshi speaks: Moshi takes the
            user's turn to be over, sooner than a pause can show it.
    """

    def __init__(
        self, tell: Tell, session: RealtimeSession, items: Items, sample_rate: int
    ):
        self._tell, self._session = tell, session
        self._items, self._rate = items, sample_rate
        self._writer: SampleWriter | None = None
        self._id = self._item = ""
        self._text: list[str] = []
        self._sounded = False
        self._frames = self._quiet = 0
        self._muted = False  # until Moshi is silent after an interruption
        self.on_open: Callable[[], Awaitable[None]] | None = None

    @property
    def open(self) -> bool:
        """Whether a response is open."""
        return bool(self._id)

    async def create(self) -> None:
        """The client requests a response. Raises: BadEvent if one is open."""
        if self.open:
            raise BadEvent(
                "a response is open already: cancel it first.",
                "conversation_already_has_active_response",
            )
        self._muted = False
        await self._begin()

    async def cancel(self) -> None:
        """The client cancels it. Raises: BadEvent if none is open."""
        if not self.open:
            raise BadEvent("no response is open.", "response_cancel_not_active")
        self._muted = True
        await self._end("cancelled", "client_cancelled")

    async def interrupt(self) -> None:
        """The user starts to speak."""
        detection = self._session.turn_detection or {}
        if self.open and detection.get("interrupt_response") is not False:
            self._muted = True
            await self._end("cancelled", "turn_detected")

    async def take(self, reply: Reply) -> None:
        """Report a frame of Moshi's."""
        loud = reply.pcm is not None and is_loud(reply.pcm)
        active = loud or bool(reply.text.strip())
        self._quiet = 0 if active else self._quiet + 1
        if self._muted:
            self._muted = self._quiet < _QUIET_FRAMES
            return
        if not self.open:
            if not active:
                return
            if self.on_open is not None:
                await self.on_open()
            await self._begin()
        await self._add(reply)
        patience = PAUSE_FRAMES if self._sounded else PATIENCE_FRAMES
        self._sounded = self._sounded or active
        if self._quiet >= patience:
            await self._end("completed")

    async def close(self) -> None:
        """The conversation is over."""
        if self.open:
            await self._end("completed")

    @property
    def _where(self) -> dict[str, Any]:
        return {
            "response_id": self._id,
            "item_id": self._item,
            "output_index": 0,
            "content_index": 0,
        }

    async def _begin(self) -> None:
        self._id, self._item = new_id("resp"), new_id("item")
        self._writer = self._session.writer(self._rate)
        self._text, self._frames, self._quiet, self._sounded = [], 0, 0, False
        await self._tell("response.created", response=self._response("in_progress"))
        item = self._shown("in_progress")
        at = {"response_id": self._id, "output_index": 0}
        await self._tell("response.output_item.added", **at, item=item)
        await self._items.add(item)
        part = {"type": "audio", "transcript": ""}
        await self._tell("response.content_part.added", **self._where, part=part)

    async def _add(self, reply: Reply) -> None:
        self._frames += 1
        if reply.text:
            text = reply.text if self._text else reply.text.lstrip()
            self._text.append(text)
            kind = "response.output_audio_transcript.delta"
            await self._tell(kind, **self._where, delta=text)
        if reply.pcm is not None and self._writer is not None:
            delta = coded(self._writer.push(reply.pcm))
            await self._tell("response.output_audio.delta", **self._where, delta=delta)

    async def _end(self, status: str, reason: str | None = None) -> None:
        text = "".join(self._text)
        part = {"type": "audio", "transcript": text}
        kind = "response.output_audio_transcript.done"
        await self._tell("response.output_audio.done", **self._where)
        await self._tell(kind, **self._where, transcript=text)
        await self._tell("response.content_part.done", **self._where, part=part)
        item = self._shown("completed" if status == "completed" else "incomplete")
        at = {"response_id": self._id, "output_index": 0}
        await self._tell("response.output_item.done", **at, item=item)
        await self._items.finish(item)
        response = self._response(status, reason, [item])
        self._id = ""
        await self._tell("response.done", response=response)

    def _shown(self, status: str) -> dict[str, Any]:
        text = "".join(self._text)
        content = [{"type": "output_audio", "transcript": text}] if self._frames else []
        return {
            "id": self._item,
            "object": "realtime.item",
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _response(
        self,
        status: str,
        reason: str | None = None,
        output: list[dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        done = status != "in_progress"
        details = {"type": status, "reason": reason} if reason else None
        return {
            "id": self._id,
            "object": "realtime.response",
            "status": status,
            "status_details": details,
            "output": output or [],
            "output_modalities": ["audio"],
            "audio": {"output": self._session.output},
            "conversation_id": self._session.id.replace("sess", "conv"),
            "metadata": None,
            "max_output_tokens": "inf",
            "usage": self._usage() if done else None,
        }

    def _usage(self) -> dict[str, Any]:
        """Tokens, counted in frames of 80 ms: in each, Moshi hears one and says one."""
        frames, words = self._frames, len(self._text)
        heard = {"text_tokens": 0, "audio_tokens": frames, "cached_tokens": 0}
        return {
            "total_tokens": 2 * frames + words,
            "input_tokens": frames,
            "output_tokens": frames + words,
            "input_token_details": heard,
            "output_token_details": {"text_tokens": words, "audio_tokens": frames},
        }
