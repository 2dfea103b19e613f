# pyright: reportMissingImports=false
"""LiveKit's RealtimeModel for OpenAI: it talks with Moshi."""

import asyncio

import aiohttp
from common import HZ, keep, report, speaking, url
from livekit import rtc
from livekit.agents import llm
from livekit.plugins import openai


async def program() -> dict:
    answers: list[dict] = []
    told: list[str] = []
    errors: list[str] = []
    reading: list[asyncio.Task] = []
    answered = asyncio.Event()

    async def read(generation: llm.GenerationCreatedEvent) -> None:
        async for message in generation.message_stream:
            answer: dict = {"text": "", "data": b""}
            answers.append(answer)

            async def write(message=message, answer=answer) -> None:
                async for piece in message.text_stream:
                    answer["text"] += piece

            async def hear(message=message, answer=answer) -> None:
                async for frame in message.audio_stream:
                    answer["data"] += frame.data.tobytes()

            await asyncio.gather(write(), hear())
        answered.set()

    async with aiohttp.ClientSession() as http:
        model = openai.realtime.RealtimeModel(
            base_url=f"{url}/v1", api_key="none", http_session=http
        )
        session = model.session()
        session.on(
            "generation_created",
            lambda event: reading.append(asyncio.create_task(read(event))),
        )
        session.on(
            "input_audio_transcription_completed",
            lambda event: told.append(event.transcript),
        )
        session.on("error", lambda event: errors.append(str(event.error)))
        await session.update_instructions("Answer in one sentence.")

        def push(data: bytes) -> None:
            session.push_audio(rtc.AudioFrame(data, HZ, 1, len(data) // 2))

        async with speaking(push):
            await answered.wait()
            await asyncio.sleep(1.0)
        await session.aclose()
        await model.aclose()
    await asyncio.gather(*reading, return_exceptions=True)
    keep("said", b"".join(answer["data"] for answer in answers), HZ)
    texts = [answer["text"] for answer in answers]
    history = [item.type for item in session.chat_ctx.items]
    return {"answers": texts, "user": told, "errors": errors, "history": history}


report(program, 240)
