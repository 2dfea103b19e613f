# pyright: reportMissingImports=false
"""LiveKit's plugin for Gradium: it speaks and transcribes."""

import aiohttp
from common import HZ, keep, report, speaking, text, url
from livekit import rtc
from livekit.agents import stt
from livekit.plugins import gradium


async def program() -> dict:
    speech = url.replace("http", "ws", 1) + "/api/speech"
    async with aiohttp.ClientSession() as http:
        tts = gradium.TTS(
            api_key="none", model_endpoint=f"{speech}/tts", http_session=http
        )
        heard = await tts.synthesize(text).collect()
        keep("said", heard.data.tobytes(), heard.sample_rate)
        # With `vad_flush` the plugin puts a second of digital silence between frames of
        # a room's: the demo, which never heard such a thing, doubts the pause then.
        ears = gradium.STT(
            api_key="none",
            model_endpoint=f"{speech}/asr",
            vad_flush=False,
            http_session=http,
        )
        stream = ears.stream()

        def push(data: bytes) -> None:
            stream.push_frame(rtc.AudioFrame(data, HZ, 1, len(data) // 2))

        live = ""
        async with speaking(push):
            async for event in stream:
                if event.type is stt.SpeechEventType.FINAL_TRANSCRIPT:
                    live = event.alternatives[0].text
                    break
        await stream.aclose()
    return {"live": live}


report(program, 120)
