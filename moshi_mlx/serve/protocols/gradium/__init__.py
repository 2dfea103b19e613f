"""Gradium's API for live speech, used by LiveKit's and pipecat's plugins.

Source: the `gradium` package, 0.6.4, and the plugins of LiveKit 1.8 and pipecat 1.14.
"""

import json

from ...gate.refusal import Manners, Refused
from ..base import Protocol, Route
from .asr import serve_asr
from .tts import post_tts, serve_tts


def _shape(refused: Refused) -> tuple[str, bytes]:
    """A JSON object, whose ``error`` Gradium's client shows."""
    return "application/json", json.dumps({"error": refused.words}).encode()


PROTOCOL = Protocol(
    sockets={"/api/speech/asr": serve_asr, "/api/speech/tts": serve_tts},
    routes=[Route("POST", "/api/post/speech/tts", post_tts)],
    manners=Manners(("/api/speech", "/api/post/speech"), _shape),
)
