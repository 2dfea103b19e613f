# pyright: reportMissingImports=false
"""LiveKit's plugin for OpenAI: it speaks, transcribes a file, and transcribes live."""

import aiohttp
from common import HZ, keep, report, sound, speaking, text, url
from livekit import rtc
from livekit.agents import stt
from livekit.plugins import openai


def frame_of(data: bytes) -> rtc.AudioFrame:
    return rtc.AudioFrame(data, HZ, 1, len(data) // 2)


async def speak(format: str) -> None:
    tts = openai.TTS(
        base_url=f"{url}/v1", api_key="none", voice="alloy", response_format=format
    )
    heard = await tts.synthesize(text).collect()
    keep(f"said-{format}", heard.data.tobytes(), heard.sample_rate)


async def transcribe() -> str:
    ears = openai.STT(base_url=f"{url}/v1", api_key="none")
    event = await ears.recognize(frame_of(sound()))
    return event.alternatives[0].text


async def transcribe_live() -> str:
    ears = openai.STT(base_url=f"{url}/v1", api_key="none", use_realtime=True)
    stream = ears.stream()
    async with speaking(lambda data: stream.push_frame(frame_of(data))):
        async for event in stream:
            if event.type is stt.SpeechEventType.FINAL_TRANSCRIPT:
                await stream.aclose()
                return event.alternatives[0].text
    return ""


async def program() -> dict:
    from livekit.agents.utils import http_context

    async with aiohttp.ClientSession() as session:
        http_context._ContextVar.set(lambda: session)
        for format in ("mp3", "pcm"):
            await speak(format)
        return {"file": await transcribe(), "live": await transcribe_live()}


report(program, 240)
