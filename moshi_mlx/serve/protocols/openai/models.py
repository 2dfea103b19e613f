"""The models that listen and speak for OpenAI's clients, and what they are called."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import time
from typing import Any
from urllib.parse import unquote

from ....audio.samples import Pcm
from ....engines.stt import STTModel
from ....engines.tts import TTSModel
from ....engines.tts.engine import DEFAULT_VOICE
from ....errors import ConfigError
from .errors import Refusal

# The voices of OpenAI; some clients send no others.
THEIR_VOICES = ("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin")
THEIR_VOICES += ("nova", "onyx", "sage", "shimmer", "verse")
MOST_AT_ONCE = 4  # requests of a kind; they take turns on the model's thread


@dataclass
class AudioModels:
    """What answers under /v1; each model may be missing.

    Attributes:
        stt, tts: the model that listens, and the one that speaks.
        voice_map: names that clients use, and the voices that they mean.
        at_once: requests that may be worked on, of each kind.
    """

    stt: STTModel | None = None
    tts: TTSModel | None = None
    voice_map: Mapping[str, str] = field(default_factory=dict)
    at_once: int = MOST_AT_ONCE

    def __post_init__(self) -> None:
        self._voices: list[str] = []  # as they were listed last
        self._busy = {"speech": 0, "transcription": 0}
        self._since = int(time())

    def ears(self) -> STTModel:
        """The model that listens. Raises: Refusal if there is none."""
        if self.stt is None:
            raise _absent("listens", "--stt")
        return self.stt

    def mouth(self) -> TTSModel:
        """The model that speaks. Raises: Refusal if there is none."""
        if self.tts is None:
            raise _absent("speaks", "--tts")
        return self.tts

    @contextmanager
    def place(self, kind: str) -> Iterator[None]:
        """A place among the requests of a kind. Raises: Refusal if all are taken."""
        if self._busy[kind] >= self.at_once:
            words = f"{self.at_once} requests of this kind are being answered: wait."
            raise Refusal(429, words, code="rate_limit_exceeded")
        self._busy[kind] += 1
        try:
            yield
        finally:
            self._busy[kind] -= 1

    async def voices(self) -> list[str]:
        """Names of the voices that can be asked for; listing them may ask the hub."""
        self._voices = await asyncio.to_thread(self.mouth().voices)
        return self._voices

    async def voice(self, asked: object) -> str:
        """The voice of a request: ours by name, or what OpenAI's names stand for.

        Raises: Refusal for one that is unknown.
        """
        if isinstance(asked, dict):
            asked = asked.get("id")
        if asked is not None and not isinstance(asked, str):
            raise Refusal(400, "voice must be a name.", "voice")
        mouth = self.mouth()
        if asked is not None and asked in self.voice_map:
            return self.voice_map[asked]
        own = self._voices or await self.voices()
        usual = mouth.usual_voice if mouth.usual_voice in own else own[0]
        if not asked or asked in ("default", mouth.name):
            return usual
        if asked in own:
            return asked
        if asked.lower() in THEIR_VOICES:
            if usual == DEFAULT_VOICE:
                return usual
            return own[THEIR_VOICES.index(asked.lower()) % len(own)]
        if asked in await self.voices():  # it has come since
            return asked
        words = f"there is no voice {asked[:80]!r}: see /v1/audio/voices."
        raise Refusal(400, words, "voice", "voice_not_found")

    def listed(self) -> list[dict[str, Any]]:
        """The models as /v1/models lists them."""
        here = [model for model in (self.stt, self.tts) if model is not None]
        about = {"object": "model", "created": self._since, "owned_by": "moshi_mlx"}
        return [{"id": model.name, **about} for model in here]

    def found(self, path: str) -> dict[str, Any]:
        """One of them, its slashes escaped or not. Raises: Refusal."""
        name = unquote(path)
        for model in self.listed():
            if model["id"] == name:
                return model
        words = f"there is no model {name[:80]!r} here: see /v1/models."
        raise Refusal(404, words, "model", "model_not_found")

    async def said(self, text: str, voice: str) -> AsyncGenerator[Pcm, None]:
        """Frames ``[1920]`` of a text, as they are made."""
        session = await asyncio.to_thread(self.mouth().session, voice)
        async with session:
            async for frame in session.afeed(text):
                yield frame
            async for frame in session.afinish():
                yield frame


def read_voice_map(pairs: Iterable[str]) -> dict[str, str]:
    """What ``--voice-map NAME=VOICE`` says. Raises: ConfigError for other forms."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, voice = pair.partition("=")
        if not (name.strip() and equals and voice.strip()):
            raise ConfigError(f"--voice-map {pair!r}: write it like alloy=VOICE.")
        found[name.strip()] = voice.strip()
    return found


def _absent(does: str, option: str) -> Refusal:
    words = f"this server has no model that {does}: start it with {option} MODEL."
    return Refusal(404, words, "model", "model_not_found")
