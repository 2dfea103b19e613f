"""LiveKit's and pipecat's plugins, unchanged, against our server.

Run with livekit-plugins-gradium 1.8.9 and pipecat-ai[gradium,openai] 1.14.0; skipped
where they are not installed.
"""

import asyncio

import numpy as np
import pytest

from moshi_mlx.engines.stt.events import WordBegun
from moshi_mlx.serve.protocols.gradium.tts import Sending
from tests.listening import noise
from tests.serve.small import VOICE, small

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("default")]
TEXT = "hello there how are you today in paris"
PCM = np.rint(noise(2.0, 3) * 32767).astype(np.int16)


def address(server, what: str) -> str:
    return f"ws://127.0.0.1:{server.port}/api/speech/{what}"


async def said(speech) -> np.ndarray:
    """What the plugins should hear: 16-bit samples at 48 kHz."""
    sending, data = Sending("pcm", 24000), b""
    async for spoken in speech.spoken(TEXT, VOICE, 20):
        if spoken.pcm is not None:
            data += sending.push(spoken.pcm)
    return np.frombuffer(data + sending.finish(), "<i2")


async def words(speech) -> list[str]:
    async with await speech.listen(20) as ears:
        await ears.put((PCM / 32768).astype(np.float32))
        await ears.flush(0)
        await ears.end()
        return [event.text async for event in ears if isinstance(event, WordBegun)]


def test_livekit_hears_what_the_model_says(serve):
    gradium = pytest.importorskip("livekit.plugins.gradium")
    aiohttp = pytest.importorskip("aiohttp")
    server = serve(speech=small())

    async def main() -> tuple[np.ndarray, np.ndarray]:
        async with aiohttp.ClientSession() as session:
            tts = gradium.TTS(
                api_key="any",
                model_endpoint=address(server, "tts"),
                voice=VOICE,
                http_session=session,
            )
            frame = await tts.synthesize(TEXT).collect()
            assert frame.sample_rate == 48000
            heard = np.frombuffer(frame.data, np.int16)
        return heard, await said(server.service.speech)

    heard, whole = asyncio.run(main())
    assert len(heard) >= len(whole) > 0  # a plugin may add a little silence
    assert np.abs(heard[: len(whole)].astype(int) - whole).max() < 10


def test_livekit_reads_what_the_model_hears(serve):
    gradium = pytest.importorskip("livekit.plugins.gradium")
    rtc = pytest.importorskip("livekit.rtc")
    aiohttp = pytest.importorskip("aiohttp")
    server = serve(speech=small())

    async def main() -> tuple[list[str], list[str]]:
        expected = await words(server.service.speech)
        async with aiohttp.ClientSession() as session:
            stt = gradium.STT(
                api_key="any",
                model_endpoint=address(server, "asr"),
                http_session=session,
                vad_flush=False,
            )
            stream = stt.stream()
            silence = np.zeros(48000, np.int16)
            for pcm in (PCM, silence):
                frame = rtc.AudioFrame(pcm.tobytes(), 24000, 1, len(pcm))
                stream.push_frame(frame)
            read: list[str] = []
            async for event in stream:
                if event.type.value == "interim_transcript":
                    read.append(event.alternatives[0].text)
                if len(read) >= 5:
                    break
            await stream.aclose()
        return read, expected

    read, expected = asyncio.run(main())
    assert read == expected[:5]


def test_pipecat_hears_what_the_model_says(serve):
    pytest.importorskip("pipecat.services.gradium.tts")
    from pipecat.frames.frames import (  # type: ignore[import-not-found]
        TTSAudioRawFrame,
        TTSSpeakFrame,
    )
    from pipecat.services.gradium.tts import (  # type: ignore[import-not-found]
        GradiumTTSService,
    )
    from pipecat.tests.utils import (  # type: ignore[import-not-found]
        SleepFrame,
        run_test,
    )

    server = serve(speech=small())

    async def main() -> tuple[np.ndarray, np.ndarray]:
        whole = await said(server.service.speech)
        tts = GradiumTTSService(
            api_key="any",
            url=address(server, "tts"),
            settings=GradiumTTSService.Settings(voice=VOICE),
        )
        frames = [TTSSpeakFrame(text=TEXT), SleepFrame(sleep=8.0)]
        down, _ = await run_test(tts, frames_to_send=frames)
        data = b"".join(f.audio for f in down if isinstance(f, TTSAudioRawFrame))
        return np.frombuffer(data, np.int16), whole

    heard, whole = asyncio.run(main())
    assert len(heard) >= len(whole) > 0  # a plugin may add a little silence
    assert np.abs(heard[: len(whole)].astype(int) - whole).max() < 10


def realtime_stt(server):
    stt = pytest.importorskip("pipecat.services.openai.stt")
    url = f"ws://127.0.0.1:{server.port}/v1/realtime"
    return stt.OpenAIRealtimeSTTService(api_key="any", base_url=url, sample_rate=24000)


def gradium_stt(server):
    stt = pytest.importorskip("pipecat.services.gradium.stt")
    url = address(server, "asr")
    return stt.GradiumSTTService(
        api_key="any", api_endpoint_base_url=url, sample_rate=24000
    )


@pytest.mark.parametrize("make", [realtime_stt, gradium_stt])
def test_pipecat_reads_what_the_model_hears(serve, make):
    frames = pytest.importorskip("pipecat.frames.frames")
    from pipecat.tests.utils import (  # type: ignore[import-not-found]
        SleepFrame,
        run_test,
    )

    server = serve(speech=small())

    async def main() -> tuple[list[str], list[str]]:
        expected = await words(server.service.speech)
        data = PCM.tobytes()
        sound = [
            frames.InputAudioRawFrame(data[at : at + 3840], 24000, 1)
            for at in range(0, len(data), 3840)
        ]
        sent = [
            SleepFrame(sleep=1.0),
            frames.VADUserStartedSpeakingFrame(),
            *sound,
            SleepFrame(sleep=1.0),
            frames.VADUserStoppedSpeakingFrame(),
            SleepFrame(sleep=6.0),
        ]
        down, _ = await run_test(make(server), frames_to_send=sent)
        final = [f.text for f in down if isinstance(f, frames.TranscriptionFrame)]
        return [word for text in final for word in text.split()], expected

    read, expected = asyncio.run(main())
    assert len(read) > 3
    # Gradium's clients are told of a word before the random model has ended it.
    assert all(r.startswith(e) for r, e in zip(read[:4], expected, strict=False))
