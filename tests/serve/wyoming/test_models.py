"""Wyoming over real models: small ones, with random weights."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.info import Describe, Info
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeVoice,
)

from moshi_mlx.cli.wyoming_port import opened_beside
from moshi_mlx.engines.owner import model_thread
from moshi_mlx.engines.stt import Word
from moshi_mlx.errors import ConfigError
from moshi_mlx.serve.protocols.wyoming.announce import addresses_of
from moshi_mlx.serve.protocols.wyoming.server import WyomingPort, wyoming_server
from moshi_mlx.serve.speech import SpeechService
from tests.listening import noise
from tests.serve.client import PATIENCE_S
from tests.serve.small import VOICE, small
from tests.serve.wyoming.reading import until

TEXT = "hello there how are you today in paris"


@asynccontextmanager
async def connected(speech: SpeechService) -> AsyncIterator[AsyncTcpClient]:
    async with wyoming_server(speech, port=0) as port:
        client = AsyncTcpClient("127.0.0.1", port, read_timeout=PATIENCE_S)
        async with client:
            yield client


async def transcribed(client: AsyncTcpClient, pcm: np.ndarray) -> str:
    await client.write_event(Transcribe(language="en").event())
    await client.write_event(AudioStart(24000, 2, 1).event())
    data = np.rint(pcm * 32767).astype("<i2").tobytes()
    for at in range(0, len(data), 2048):
        chunk = AudioChunk(24000, 2, 1, data[at : at + 2048])
        await client.write_event(chunk.event())
    await client.write_event(AudioStop().event())
    return Transcript.from_event((await until(client, "transcript"))[-1]).text


async def spoken(client: AsyncTcpClient, *pieces: str) -> np.ndarray:
    voice = SynthesizeVoice(name=VOICE)
    await client.write_event(SynthesizeStart(voice=voice).event())
    for piece in pieces:
        await client.write_event(SynthesizeChunk(piece).event())
    await client.write_event(Synthesize("".join(pieces), voice=voice).event())
    await client.write_event(SynthesizeStop().event())
    events = await until(client, "synthesize-stopped")
    data = b"".join(e.payload or b"" for e in events if e.type == "audio-chunk")
    return np.frombuffer(data, "<i2") / np.float32(32767)


def test_a_sound_is_transcribed_and_a_text_cut_anywhere_is_said_as_if_whole():
    speech = small()
    pcm = noise(2.0, 3)

    async def main() -> None:
        said = [s async for s in speech.spoken(TEXT, VOICE)]
        whole = np.concatenate([s.pcm for s in said if s.pcm is not None])
        async with await speech.listen() as ears:
            await ears.put((np.rint(pcm * 32767) / 32768).astype(np.float32))
            await ears.end()
            words = [e.text async for e in ears if isinstance(e, Word)]
        async with connected(speech) as client:
            assert await transcribed(client, pcm) == " ".join(words)
            pieces = [TEXT[i : i + 5] for i in range(0, len(TEXT), 5)]
            mine = await spoken(client, *pieces)
            np.testing.assert_allclose(mine, whole, atol=1e-4)
            await client.write_event(Describe().event())
            info = Info.from_event((await until(client, "info"))[-1])
        assert VOICE in [voice.name for voice in info.tts[0].voices]
        assert info.asr[0].models[0].name == "small-stt"
        assert words

    asyncio.run(main())


def test_a_client_waits_for_a_row_that_another_one_uses():
    speech = small(rows=1)

    async def main() -> None:
        async with wyoming_server(speech, port=0) as port:
            here = [
                AsyncTcpClient("127.0.0.1", port, read_timeout=PATIENCE_S) for _ in "ab"
            ]
            async with here[0], here[1]:
                both = await asyncio.gather(*(spoken(c, TEXT) for c in here))
        np.testing.assert_allclose(both[0], both[1], atol=1e-4)

    asyncio.run(main())


def test_without_models_the_description_is_empty_and_requests_are_refused():
    async def main() -> None:
        async with connected(SpeechService()) as client:
            await client.write_event(Describe().event())
            info = Info.from_event((await until(client, "info"))[-1])
            assert not info.asr and not info.tts
            await client.write_event(Synthesize("hello").event())
            event = await client.read_event()
            assert event is not None and "--tts" in event.data["text"]

    asyncio.run(main())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_a_port_that_only_this_machine_reaches_is_not_announced(host: str):
    with pytest.raises(ConfigError, match="--wyoming-host"):
        addresses_of(host)


def test_a_port_that_others_reach_is_warned_about_and_found_on_the_network():
    assert addresses_of("192.0.2.7") == ["192.0.2.7"]
    assert "no password" in (WyomingPort("0.0.0.0").warning() or "")
    assert WyomingPort().warning() is None


def test_the_port_is_open_while_the_server_runs_and_closed_afterwards(serve):
    speech = small()
    port = free_port()
    server = serve(speech=speech, beside=lambda: WyomingPort(port=port).open(speech))

    async def describe() -> str:
        async with AsyncTcpClient("127.0.0.1", port, read_timeout=PATIENCE_S) as client:
            await client.write_event(Describe().event())
            info = Info.from_event((await until(client, "info"))[-1])
            return info.asr[0].models[0].name

    assert asyncio.run(describe()) == "small-stt"
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(describe())


def test_a_row_is_freed_even_if_its_client_goes_while_it_is_closed():
    speech = small(rows=1)

    async def main() -> int:
        voice = await speech.speak(VOICE, 20)
        busy = threading.Event()
        model_thread().call(lambda: busy.wait(PATIENCE_S))
        closing = asyncio.ensure_future(voice.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        busy.set()
        await (await speech.speak(VOICE, 5)).aclose()
        return (await speech.speaking()).taken

    assert asyncio.run(main()) == 0


def test_a_port_with_nothing_to_offer_is_refused():
    with pytest.raises(ConfigError, match="--stt"):
        opened_beside(WyomingPort(), SpeechService())


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]
