"""Kyutai's moshi-server: what Unmute and Kyutai's scripts connect to."""

from ...gate.refusal import Manners, Refused
from ..base import Protocol, Route
from .about import modules_info
from .asr import serve_asr, transcribe
from .tts import serve_tts, speak
from .voice import clone, delete, listed


def _shape(refused: Refused) -> tuple[str, bytes]:
    """As moshi-server: nothing with a 401, else a line of text."""
    if refused.status == 401:
        return "", b""
    return "text/plain; charset=utf-8", refused.words.encode()


_REPORTS = ("/api/build_info", "/api/modules_info", "/metrics")
_SPEECH = ("/api/asr-streaming", "/api/tts_streaming", "/api/voice")
# Unmute asks for a voice, and for the reports, without a key.
_OPEN = [("POST", "/api/voice"), *(("GET", path) for path in _REPORTS)]

PROTOCOL = Protocol(
    sockets={"/api/asr-streaming": serve_asr, "/api/tts_streaming": serve_tts},
    routes=[
        Route("POST", "/api/asr-streaming", transcribe),
        Route("POST", "/api/tts_streaming", speak),
        Route("POST", "/api/voice", clone),
        Route("GET", "/api/voice", listed),
        Route("DELETE", "/api/voice/{name}", delete),
        Route("GET", "/api/modules_info", modules_info),
    ],
    manners=Manners((*_SPEECH, *_REPORTS), _shape, _OPEN),
)
