"""Speech to text: ``/api/speech/asr``."""

import asyncio
from typing import TYPE_CHECKING, Any

from ....documents.words import Word
from ....engines.stt.batch import Marker
from ....engines.stt.events import Event, Pauses, WordBegun
from ....engines.stt.rows import FRAME_S
from ....errors import ProtocolError
from ...service import Service
from ...sounds import (
    CompandedReader,
    OggReader,
    SampleReader,
    SoundReader,
    WavStreamReader,
)
from ...speech import Ears
from ...tasks import within
from .messages import SOUND_FORMATS, is_rate, settings_of, sound_of, string
from .requests import RequestSocket, SpeechRequest, both

if TYPE_CHECKING:
    from fastapi import WebSocket

_PATIENCE_S = 2.0  # for a free row of the model
MOST_NAME = 200  # characters of a flush_id
_SILENT_S = 120.0  # without a message a request ends


async def serve_asr(service: Service, socket: "WebSocket") -> None:
    """Sounds while they are said; words, pauses and flushes come back."""
    await RequestSocket(service, socket, transcribe).serve()


def sound_reader(wanted: str, target_hz: int) -> SoundReader:
    """A reader for an ``input_format``. Raises: ProtocolError for others."""
    if wanted in ("ulaw_8000", "alaw_8000"):
        return CompandedReader(wanted[:4].upper(), target_hz)
    if wanted == "wav":
        return WavStreamReader(target_hz)
    if wanted == "opus":
        return OggReader()
    kind, _, rate = wanted.partition("_")
    if kind == "pcm" and (not rate or is_rate(rate)):
        return SampleReader(int(rate or 24000), target_hz)
    raise ProtocolError(
        f"input_format {wanted[:40]!r} is unknown: use {SOUND_FORMATS}."
    )


class Flushes:
    """The client's names for its flushes, by our numbers, until they are reported."""

    def __init__(self) -> None:
        self._names: dict[int, object] = {}
        self._count = 0

    def begun(self, name: object) -> int:
        """The number of a flush. Raises: ProtocolError for an invalid name."""
        if not isinstance(name, str | int | float | None) or len(str(name)) > MOST_NAME:
            words = f"flush_id must be a number, or up to {MOST_NAME} characters."
            raise ProtocolError(words)
        self._count += 1
        self._names[self._count] = name
        return self._count

    def told(self, number: int) -> object:
        """The name of a flush, which is then forgotten."""
        return self._names.pop(number)


async def transcribe(request: SpeechRequest) -> None:
    """Handle a request."""
    settings_of(request.setup)
    wanted = string(request.setup, "input_format") or "wav"
    async with await request.service.speech.listen(_PATIENCE_S) as ears:
        reader = sound_reader(wanted, ears.sample_rate)
        delay = round(ears.delay_s / FRAME_S)
        offer = request.service.speech.hears
        await request.send(
            {
                "type": "ready",
                "request_id": request.request_id,
                "model_name": "" if offer is None else offer.name,
                "sample_rate": ears.sample_rate,
                "frame_size": round(FRAME_S * ears.sample_rate),
                "delay_in_frames": delay,
                "delay_in_tokens": delay,
                "text_stream_names": [],
            }
        )
        flushes = Flushes()
        await both(_hear(request, ears, reader, flushes), _tell(request, ears, flushes))


async def _hear(
    request: SpeechRequest, ears: Ears, reader: SoundReader, flushes: Flushes
) -> None:
    while True:
        try:
            fields = await within(request.told.get(), _SILENT_S)
        except asyncio.TimeoutError:
            raise ProtocolError(f"nothing came for {_SILENT_S:g} s.") from None
        kind = fields["type"]
        if kind == "audio":
            await ears.put(reader.push(sound_of(fields)))
        elif kind == "flush":
            await ears.flush(flushes.begun(fields.get("flush_id")))
        elif kind == "end_of_stream":
            await ears.put(reader.flush())
            await ears.end()
            return
        else:
            raise ProtocolError(f"a message has the unknown type {kind[:40]!r}.")


async def _tell(request: SpeechRequest, ears: Ears, flushes: Flushes) -> None:
    async for event in ears:
        if (fields := _message(event, ears, flushes)) is not None:
            await request.send(fields)


def _message(
    event: Event | Marker, ears: Ears, flushes: Flushes
) -> dict[str, Any] | None:
    if isinstance(event, Pauses):
        scores = zip(ears.pause_lengths_s, event.probabilities, strict=False)
        return {
            "type": "step",
            "vad": [
                {"horizon_s": length, "inactivity_prob": round(p, 4)}
                for length, p in scores
            ],
            "step_idx": round(event.time_s / FRAME_S),
            "step_duration_s": FRAME_S,
            "total_duration_s": round(event.time_s, 3),
        }
    if isinstance(event, WordBegun):
        start_s = round(event.start_s, 3)
        return {"type": "text", "text": event.text, "start_s": start_s, "stream_id": 0}
    if isinstance(event, Word):
        return {"type": "end_text", "stop_s": round(event.end_s, 3), "stream_id": 0}
    if isinstance(event, Marker):
        return {"type": "flushed", "flush_id": flushes.told(event.id)}
    return None
