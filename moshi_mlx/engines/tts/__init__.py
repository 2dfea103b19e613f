"""Text to speech: state machine, scripts, voices, and the model that speaks."""

from .engine import (
    DEFAULT_DSM_TTS_REPO,
    DEFAULT_DSM_TTS_VOICE_REPO,
    DEFAULT_VOICE,
    TTSModel,
    TTSResult,
)
from .machine import Entry, State, StateMachine, TokenIds
from .run import SpeechRun
from .script import ScriptReader, script_to_entries, without_unknown
from .session import Audio, SpeechSession

__all__ = [
    "DEFAULT_DSM_TTS_REPO",
    "DEFAULT_DSM_TTS_VOICE_REPO",
    "DEFAULT_VOICE",
    "Audio",
    "Entry",
    "ScriptReader",
    "SpeechRun",
    "SpeechSession",
    "State",
    "StateMachine",
    "TTSModel",
    "TTSResult",
    "TokenIds",
    "script_to_entries",
    "without_unknown",
]
