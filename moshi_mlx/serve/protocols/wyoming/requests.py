"""The two things that a Wyoming client can ask for: a transcript, and a speech."""

import asyncio
import html
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ....audio.samples import Pcm
from ....documents.words import Word
from ....errors import ProtocolError
from ...sounds import SampleReader
from ...speech import Ears, SpeechService, Voice
from ...tasks import cancel_all
from .about import USUAL_VOICE
from .wire import Bounds

if TYPE_CHECKING:
    from wyoming.event import Event, Eventable

Send = Callable[["Eventable"], Awaitable[None]]
_TAG = re.compile(r"<(?!/?break\b)[^<>]*>")  # SSML; our models know only its pauses
_PIECE = 1 << 14  # bytes of sound that are resampled at once, in a millisecond


class Transcription:
    """A sound that arrives in chunks; each word is sent as soon as it is known.

    Args:
        shape: the data of an event: rate in Hz, width in bytes, channels.

    Attributes:
        began_at: when, in the event loop's time.

    Raises: ProtocolError for an impossible shape.
    """

    def __init__(
        self, ears: Ears, send: Send, bounds: Bounds, shape: Mapping[str, Any]
    ):
        self._ears, self._send, self._bounds = ears, send, bounds
        self.began_at = asyncio.get_running_loop().time()
        hz, width, channels = (
            _whole(shape, key, usual)
            for key, usual in (("rate", 16000), ("width", 2), ("channels", 1))
        )
        self._reader = SampleReader(hz, ears.sample_rate, width, channels)
        self._heard = 0
        self._words: list[str] = []
        self._telling = asyncio.ensure_future(self._tell())

    async def take(self, payload: bytes) -> None:
        """A chunk of sound. Raises: ProtocolError if there is too much of it."""
        for at in range(0, len(payload), _PIECE):
            await self._put(self._reader.push(payload[at : at + _PIECE]))
            await asyncio.sleep(0)  # others come first

    async def _put(self, pcm: Pcm) -> None:
        self._heard += len(pcm)
        if self._heard > self._bounds.heard_s * self._ears.sample_rate:
            raise ProtocolError(
                f"the sound is longer than {self._bounds.heard_s:g} s: send it in "
                "parts."
            )
        if self._telling.done():
            self._telling.result()  # raises what went wrong
        await self._ears.put(pcm)

    async def finish(self, language: str | None) -> None:
        """The sound is over: send the complete transcript."""
        from wyoming.asr import Transcript, TranscriptStop

        await self._put(self._reader.flush())
        await self._ears.end()
        await self._telling
        await self._send(Transcript(" ".join(self._words), language=language))
        await self._send(TranscriptStop())

    async def _tell(self) -> None:
        from wyoming.asr import TranscriptChunk, TranscriptStart

        await self._send(TranscriptStart())
        async for event in self._ears:
            if isinstance(event, Word):
                space = " " if self._words else ""
                self._words.append(event.text)
                await self._send(TranscriptChunk(space + event.text))

    async def close(self) -> None:
        """Free the row of the model."""
        await cancel_all(self._telling)
        await self._ears.aclose()


class Synthesis:
    """A text that arrives in pieces, cut anywhere; its sound is sent as it is made.

    A reply has one beginning and one sample rate, because Home Assistant writes a
    single WAV header.

    Args:
        streamed: whether the client waits for ``synthesize-stopped``.

    Attributes:
        began_at: when, in the event loop's time.
    """

    def __init__(self, voice: Voice, send: Send, bounds: Bounds, streamed: bool):
        self._voice, self._send, self._bounds = voice, send, bounds
        self.began_at = asyncio.get_running_loop().time()
        self._streamed = streamed
        self._chars = 0
        self._some = False  # whether there is anything to say
        self._telling = asyncio.ensure_future(self._tell())

    async def take(self, text: str) -> None:
        """More text. Raises: ProtocolError if there is too much of it."""
        self._chars += len(text)
        if self._chars > self._bounds.text_chars:
            raise ProtocolError(
                f"the text has more than {self._bounds.text_chars} characters: send it "
                "in parts."
            )
        if self._telling.done():
            self._telling.result()
        self._some = self._some or bool(text.strip())
        await self._voice.put(text)

    async def finish(self) -> None:
        """The text is over: send the rest of the sound, and the events that end it."""
        from wyoming.audio import AudioStart, AudioStop
        from wyoming.tts import SynthesizeStopped

        if self._some:
            await self._voice.finish()
            sounded = await self._telling
        else:  # no words: a reply without sound, and no error
            await cancel_all(self._telling)
            sounded = False
        if not sounded:
            await self._send(AudioStart(self._voice.sample_rate, 2, 1))
        await self._send(AudioStop())
        if self._streamed:
            await self._send(SynthesizeStopped())

    async def _tell(self) -> bool:
        """Send the sound; returns whether there was any."""
        from wyoming.audio import AudioChunk, AudioStart

        rate, samples = self._voice.sample_rate, 0
        async for pcm in self._voice:
            if not samples:
                await self._send(AudioStart(rate, 2, 1, timestamp=0))
            data = np.rint(np.clip(pcm, -1, 1) * 32767).astype("<i2").tobytes()
            at_ms = 1000 * samples // rate
            await self._send(AudioChunk(rate, 2, 1, data, timestamp=at_ms))
            samples += len(pcm)
        return samples > 0

    async def close(self) -> None:
        """Free the row of the model."""
        await cancel_all(self._telling)
        await self._voice.aclose()


async def begin_synthesis(
    speech: SpeechService, event: "Event", send: Send, bounds: Bounds, streamed: bool
) -> Synthesis:
    """A speech in the voice that an event asks for.

    Raises: as ``SpeechService.speak``.
    """
    wished = event.data.get("voice")
    name = wished.get("name") if isinstance(wished, dict) else None
    if name is not None and not isinstance(name, str):
        raise ProtocolError("the name of a voice must be a string.")
    usual = name in (None, "", USUAL_VOICE)
    voice = await speech.speak(None if usual else name, bounds.wait_s)
    return Synthesis(voice, send, bounds, streamed)


def plain_text(event: "Event") -> str:
    """The text of an event; SSML loses its tags, except pauses.

    Raises: ProtocolError if there is none.
    """
    text = event.data.get("text")
    if not isinstance(text, str):
        raise ProtocolError(f"{event.type[:40]} needs a text, as a string.")
    if event.data.get("text_format") == "ssml":
        return html.unescape(_TAG.sub(" ", text))
    return text


def _whole(shape: Mapping[str, Any], key: str, usual: int) -> int:
    value = shape.get(key, usual)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ProtocolError(f"the sound's {key} is {value!r:.40}, not a whole number.")
    return value
