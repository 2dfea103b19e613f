"""The settings of a session, and how the server uses them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ....errors import ProtocolError
from ...service import Service
from ...sounds import (
    TELEPHONE_HZ,
    CompandedReader,
    SampleReader,
    SampleWriter,
    SoundReader,
)
from .messages import BadEvent, EventFields, new_id

LONGEST_S = 3600
_PCM = {"type": "audio/pcm", "rate": 24000}
_LAWS = {"audio/pcmu": "ULAW", "audio/pcma": "ALAW"}
_VADS = ("server_vad", "semantic_vad")
_INPUT = ("format", "transcription", "turn_detection", "noise_reduction")
_OUTPUT = ("format", "voice", "speed")
_SPEECH_FIELDS = (
    *("output_modalities", "instructions", "tools", "tool_choice", "tracing"),
    *("max_output_tokens", "include", "truncation", "prompt"),
)


@dataclass
class RealtimeSession:
    """A session as its client sees it.

    Attributes:
        kind: "transcription", or "realtime" for a conversation with Moshi.
        model: the client's name for the model.
        input, output: of ``audio``.
        others: fields that are kept and shown, without effect.
    """

    kind: str
    model: str
    input: dict[str, Any]
    output: dict[str, Any]
    others: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: new_id("sess"))
    expires_at: int = field(default_factory=lambda: int(time.time()) + LONGEST_S)

    @classmethod
    def of(cls, service: Service, query: Mapping[str, str]) -> "RealtimeSession":
        """The session that an address asks for: a conversation if there is a model for
        it, otherwise, or with ``intent=transcription``, a transcription."""
        talks = service.batch is not None and query.get("intent") != "transcription"
        hears = service.speech.hears
        ear = "" if hears is None else hears.name
        about = service.about
        name = ear if not talks or about is None else about.model
        vad = {"type": "semantic_vad", "eagerness": "auto"}
        if not talks:
            vad = {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 500}
        return cls(
            "realtime" if talks else "transcription",
            query.get("model") or name,
            {
                "format": dict(_PCM),
                "transcription": {"model": ear} if ear else None,
                "turn_detection": vad,
                "noise_reduction": None,
            },
            {"format": dict(_PCM), "voice": "marin", "speed": 1.0},
            {"output_modalities": ["audio"], "instructions": "", "tools": []}
            if talks
            else {},
        )

    @property
    def shown(self) -> dict[str, Any]:
        """The whole session, as events show it."""
        talks = self.kind == "realtime"
        audio = {"input": self.input} | ({"output": self.output} if talks else {})
        kind = "session" if talks else "transcription_session"
        shown = {
            "type": self.kind,
            "object": f"realtime.{kind}",
            "id": self.id,
            "expires_at": self.expires_at,
            **self.others,
            "audio": audio,
        }
        return shown | ({"model": self.model} if talks else {})

    @property
    def instructions(self) -> str:
        """The persona that the client wants; "" leaves it to the server."""
        wanted = self.others.get("instructions")
        return wanted if isinstance(wanted, str) else ""

    @property
    def voice(self) -> str:
        """The voice that the client names."""
        wanted = self.output["voice"]
        return wanted if isinstance(wanted, str) else ""

    @property
    def turn_detection(self) -> EventFields | None:
        """How turns are found; None if the client commits them itself."""
        return self.input["turn_detection"]

    @property
    def transcribes(self) -> bool:
        """Whether the client wants the user's words."""
        return self.kind == "transcription" or self.input["transcription"] is not None

    def update(self, fields: EventFields) -> None:
        """Apply an update; other fields stay. Unknown fields are ignored.

        Raises: BadEvent, without changing anything.
        """
        audio = _object(fields, "audio", "session.audio")
        given = _object(audio, "input", "session.audio.input")
        said = _object(audio, "output", "session.audio.output")
        new_input = self.input | {k: given[k] for k in _INPUT if k in given}
        new_output = self.output | {k: said[k] for k in _OUTPUT if k in said}
        for name, side in (("input", new_input), ("output", new_output)):
            side["format"] = _format(side["format"], f"session.audio.{name}.format")
        new_input["turn_detection"] = _turns(new_input["turn_detection"])
        transcription = new_input["transcription"]
        if transcription is not None and not isinstance(transcription, dict):
            where = "session.audio.input.transcription"
            raise BadEvent(f"{where} must be an object or null.", param=where)
        kind = fields.get("type", self.kind)
        if kind not in ("realtime", "transcription"):
            words = "session.type must be realtime or transcription."
            raise BadEvent(words, param="session.type")
        self.input, self.output, self.kind = new_input, new_output, kind
        self.others |= {k: fields[k] for k in _SPEECH_FIELDS if k in fields}
        if isinstance(fields.get("model"), str):
            self.model = fields["model"]

    def reader(self, hz: int) -> SoundReader:
        """Decodes the client's sound to samples of ``hz``."""
        kind, rate = self.input["format"]["type"], self.input["format"].get("rate")
        if kind in _LAWS:
            return CompandedReader(_LAWS[kind], hz)
        try:
            return SampleReader(rate, hz)
        except ProtocolError as error:
            where = "session.audio.input.format"
            raise BadEvent(str(error), param=where) from error

    def writer(self, hz: int) -> SampleWriter:
        """Encodes samples of ``hz`` in the client's format."""
        kind, rate = self.output["format"]["type"], self.output["format"].get("rate")
        if kind in _LAWS:
            return SampleWriter(hz, TELEPHONE_HZ, _LAWS[kind])
        return SampleWriter(hz, rate)


def _object(fields: EventFields, name: str, where: str) -> EventFields:
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadEvent(f"{where} must be an object.", param=where)
    return value


def _format(value: object, where: str) -> dict[str, Any]:
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind in _LAWS:
        return {"type": kind}
    rate = value.get("rate", 24000) if isinstance(value, dict) else None
    usable = type(rate) is int and 8000 <= rate <= 48000
    if kind != "audio/pcm" or not usable:
        raise BadEvent(
            f"{where} must be audio/pcm with a rate of 8000 to 48000, audio/pcmu or "
            "audio/pcma.",
            param=where,
        )
    return {"type": kind, "rate": rate}


def _turns(value: object) -> dict[str, Any] | None:
    where = "session.audio.input.turn_detection"
    if value is None:
        return None
    if not isinstance(value, dict) or value.get("type", "server_vad") not in _VADS:
        words = f"{where} must be null, or have the type {' or '.join(_VADS)}."
        raise BadEvent(words, param=where)
    silence = value.get("silence_duration_ms")
    number = isinstance(silence, int | float) and not isinstance(silence, bool)
    if silence is not None and not (number and 0 <= silence <= 60_000):
        where = f"{where}.silence_duration_ms"
        raise BadEvent(f"{where} must be a number from 0 to 60000.", param=where)
    return {"type": "server_vad", **value}
