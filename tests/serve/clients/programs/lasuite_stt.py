# pyright: reportMissingImports=false
"""La Suite's plugin of LiveKit for Kyutai's moshi-server: it transcribes."""

import asyncio

import aiohttp
from common import HZ, report, speaking, url
from lasuite.plugins import kyutai
from livekit import rtc


async def program() -> dict:
    words: list[str] = []
    async with aiohttp.ClientSession() as http:
        ears = kyutai.STT(
            base_url=url.replace("http", "ws", 1) + "/api/asr-streaming",
            api_key="public_token",
            http_session=http,
        )
        stream = ears.stream()

        def push(data: bytes) -> None:
            stream.push_frame(rtc.AudioFrame(data, HZ, 1, len(data) // 2))

        async def read() -> None:
            async for event in stream:
                words.extend(found.text for found in event.alternatives)

        reading = asyncio.create_task(read())
        async with speaking(push):
            known = -1
            while not words or len(words) > known:  # until no word has come for 4 s
                known = len(words)
                await asyncio.sleep(4.0)
        await stream.aclose()
        reading.cancel()
    return {"live": " ".join(words)}


report(program, 60)
