"""The names of models and voices for OpenAI's clients."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from ....engines.tts.engine import DEFAULT_VOICE
from ....errors import ConfigError
from ...gate.refusal import Refused
from ...service import Service
from ...speech import SpeechService

# OpenAI's voices; some clients send no others.
THEIR_VOICES = ("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin")
THEIR_VOICES += ("nova", "onyx", "sage", "shimmer", "verse")


async def voice_for(speech: SpeechService, asked: object) -> str:
    """The voice of a request: one of ours by name, or what OpenAI's name stands for.

    Raises: Refused for an unknown one.
    """
    if isinstance(asked, dict):
        asked = asked.get("id")
    if asked is not None and not isinstance(asked, str):
        raise Refused(400, "voice must be a name.", "voice")
    if asked is not None and asked in speech.voice_map:
        return speech.voice_map[asked]
    usual = await speech.voices.usual()
    name = "" if speech.tts is None else speech.tts.name
    if not asked or asked in ("default", name):
        return usual
    own = speech.voices.known
    if asked in own:
        return asked
    if asked.lower() in THEIR_VOICES:
        if usual == DEFAULT_VOICE:
            return usual
        return own[THEIR_VOICES.index(asked.lower()) % len(own)]
    if asked in await speech.voices.names():  # it was added meanwhile
        return asked
    words = f"there is no voice {asked[:80]!r}: see /v1/audio/voices."
    raise Refused(400, words, "voice", "voice_not_found")


def listed(service: Service) -> list[dict[str, Any]]:
    """The models, as /v1/models lists them."""
    speech = service.speech
    here = (speech.stt, speech.tts, speech.translate, speech.text)
    names = dict.fromkeys(model.name for model in here if model is not None)
    names |= dict.fromkeys(service.adapters)  # for Realtime
    since = int(service.since)
    about = {"object": "model", "created": since, "owned_by": "moshi_mlx"}
    return [{"id": name, **about} for name in names]


def found(service: Service, path: str) -> dict[str, Any]:
    """One of the models, its slashes escaped or not. Raises: Refused."""
    name = unquote(path)
    for model in listed(service):
        if model["id"] == name:
            return model
    words = f"there is no model {name[:80]!r} here: see /v1/models."
    raise Refused(404, words, "model", "model_not_found")


def read_voice_map(pairs: Iterable[str]) -> dict[str, str]:
    """The pairs of ``--voice-map NAME=VOICE``. Raises: ConfigError for other forms."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, voice = pair.partition("=")
        if not (name.strip() and equals and voice.strip()):
            raise ConfigError(f"--voice-map {pair!r}: write it like alloy=VOICE.")
        found[name.strip()] = voice.strip()
    return found
