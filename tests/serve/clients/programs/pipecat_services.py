# pyright: reportMissingImports=false
"""One of pipecat's services for OpenAI and Gradium, in a pipeline of its own.

pipecat_services.py URL FOLDER openai-tts|gradium-tts|openai-stt|...
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from common import HZ, PIECE, keep, report, sound, text, url
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    LLMContextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSTextFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.worker import PipelineParams
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.services.gradium.stt import GradiumSTTService
from pipecat.services.gradium.tts import GradiumTTSService
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.services.openai.stt import OpenAIRealtimeSTTService, OpenAISTTService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.tests.utils import SleepFrame, run_test

SOCKET = url.replace("http", "ws", 1)
REALTIME, GRADIUM = f"{SOCKET}/v1/realtime", f"{SOCKET}/api/speech"
ANSWERS_S = 20  # that a service is given to answer in
TALKS_S = 7  # the same for Moshi, who begins to talk of other things after that
KEY: dict[str, Any] = {"api_key": "none"}


def service_of(name: str) -> Any:
    if name == "openai-tts":
        return OpenAITTSService(**KEY, base_url=f"{url}/v1")
    if name == "gradium-tts":
        return GradiumTTSService(**KEY, url=f"{GRADIUM}/tts")
    if name == "openai-stt":
        return OpenAISTTService(**KEY, base_url=f"{url}/v1")
    if name == "openai-realtime-stt":
        return OpenAIRealtimeSTTService(**KEY, base_url=REALTIME)
    if name == "gradium-stt":
        address = f"{GRADIUM}/asr"
        return GradiumSTTService(**KEY, api_endpoint_base_url=address, sample_rate=HZ)
    return OpenAIRealtimeLLMService(**KEY, base_url=REALTIME)


def microphone(data: bytes) -> Iterator[Frame]:
    for at in range(0, len(data), PIECE):
        yield InputAudioRawFrame(data[at : at + PIECE], HZ, 1)
        yield SleepFrame(sleep=PIECE / 2 / HZ)


def silence(seconds: float) -> bytes:
    return bytes(PIECE * round(seconds * 2 * HZ / PIECE))


def frames_for(name: str) -> Sequence[Frame]:
    if name.endswith("tts"):
        return [TTSSpeakFrame(text=text), SleepFrame(sleep=ANSWERS_S)]
    if name.endswith("stt"):
        return [
            SleepFrame(sleep=2.0),
            VADUserStartedSpeakingFrame(),
            *microphone(sound() + silence(0.5)),
            VADUserStoppedSpeakingFrame(),
            *microphone(silence(2.0)),
            SleepFrame(sleep=ANSWERS_S),
        ]
    begin = [LLMContextFrame(LLMContext([])), SleepFrame(sleep=3.0)]
    return [*begin, *microphone(sound() + silence(TALKS_S)), SleepFrame(sleep=3.0)]


async def program() -> dict:
    name = sys.argv[3]
    down, up = await run_test(
        service_of(name),
        frames_to_send=frames_for(name),
        start_timeout=30.0,
        pipeline_params=PipelineParams(audio_in_sample_rate=HZ),
    )
    found = [*down, *up]
    heard = [frame for frame in found if isinstance(frame, TTSAudioRawFrame)]
    if heard:
        data = b"".join(frame.audio for frame in heard)
        keep("said", data, heard[0].sample_rate)
    return {
        "read": [f.text for f in found if isinstance(f, TranscriptionFrame)],
        "said": [f.text for f in found if isinstance(f, TTSTextFrame)],
        "errors": [f.error for f in found if isinstance(f, ErrorFrame)],
    }


report(program, 200)
