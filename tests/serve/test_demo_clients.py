"""Clients from PyPI hear the demo's words, and read them: openai, wyoming, gradium."""

import asyncio
import io
import wave

import numpy as np
import pytest
from gradium.client import GradiumClient
from openai import OpenAI
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop

import moshi_mlx
from moshi_mlx.audio.files import read
from moshi_mlx.audio.resample import resample
from moshi_mlx.serve.protocols.wyoming.server import WyomingPort
from tests.recogniser import hear
from tests.serve.clients.listening import MODEL, QUESTION, TEXT, is_question
from tests.serve.openai.speaking import speaking
from tests.serve.test_documented_clients import free_port
from tests.serve.wyoming.reading import until

pytestmark = pytest.mark.flaky(reruns=2)  # the demo mumbles now and then


@pytest.fixture(scope="module")
def speech():
    return speaking(moshi_mlx.load_stt(MODEL), moshi_mlx.load_tts(MODEL))


def samples(data: bytes) -> np.ndarray:
    """Of a WAV file."""
    with wave.open(io.BytesIO(data)) as file:
        pcm = np.frombuffer(file.readframes(2**30), "<i2") / np.float32(32768)
        return resample(pcm[None], file.getframerate(), 24000)[0]


def test_openais_client_hears_and_reads_it(serve, speech):
    url = serve(speech=speech).url("/v1")
    with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        said = client.audio.speech.create(
            model="tts-1", voice="alloy", input=TEXT, response_format="wav"
        )
        with QUESTION.open("rb") as file:
            words = client.audio.transcriptions.create(model="whisper-1", file=file)
    assert is_question(words.text)
    assert hear(samples(said.content)) == TEXT


def test_gradiums_client_hears_and_reads_it(serve, speech):
    url = serve(speech=speech).url("/api/")

    async def main() -> None:
        client = GradiumClient(base_url=url, api_key="any")
        said = await client.tts({"output_format": "wav"}, TEXT)
        words = await client.stt({"input_format": "wav"}, QUESTION.read_bytes())
        assert is_question(words.text)
        assert hear(samples(said.raw_data)) == TEXT

    asyncio.run(main())


def test_home_assistants_sequence_hears_and_reads_it(serve, speech):
    """Its text comes in pieces and then once more; its sound has 16 kHz."""
    port = free_port()
    serve(speech=speech, beside=lambda: WyomingPort(port=port).open(speech))
    pcm = resample(read(QUESTION)[0][None], 24000, 16000)[0]
    data = np.rint(pcm * 32767).astype("<i2").tobytes()
    middle = len(TEXT) // 2
    pieces = [SynthesizeChunk(TEXT[:middle]), SynthesizeChunk(TEXT[middle:])]

    async def main() -> None:
        async with AsyncTcpClient("127.0.0.1", port, read_timeout=60) as client:
            sound = [AudioChunk(16000, 2, 1, data), AudioStop()]
            for event in (Transcribe(language="en"), AudioStart(16000, 2, 1), *sound):
                await client.write_event(event.event())
            words = Transcript.from_event((await until(client, "transcript"))[-1])
            assert is_question(words.text)
            end = [Synthesize(TEXT), SynthesizeStop()]
            for event in (SynthesizeStart(), *pieces, *end):
                await client.write_event(event.event())
            events = await until(client, "synthesize-stopped")
        said = b"".join(e.payload or b"" for e in events if e.type == "audio-chunk")
        assert hear(np.frombuffer(said, "<i2") / np.float32(32768)) == TEXT

    asyncio.run(main())
