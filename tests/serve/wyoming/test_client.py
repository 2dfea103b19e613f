"""Wyoming's own client, and Home Assistant's sequence, against ears and a voice that
need no model."""

import asyncio
import random
from json import dumps

from wyoming import asr, tts
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.info import Describe, Info

from moshi_mlx.serve.protocols.wyoming.wire import Bounds
from tests.serve.client import PATIENCE_S
from tests.serve.wyoming.fakes import FakeSpeech, connected, served, settled
from tests.serve.wyoming.reading import until


def test_describe_and_ping_are_answered_and_unknown_events_change_nothing():
    async def main() -> None:
        async with connected(FakeSpeech()) as client:
            await client.write_event(Event("made-up", {"x": 1}, b"abc"))
            await client.write_event(Event("ping", {"text": "t"}))
            assert (await until(client, "pong"))[-1].data == {"text": "t"}
            await client.write_event(Describe().event())
            info = Info.from_event((await until(client, "info"))[-1])
            assert [v.name for v in info.tts[0].voices] == ["default", "anna", "bob"]
            assert info.asr[0].supports_transcript_streaming
            assert info.tts[0].supports_synthesize_streaming

    asyncio.run(main())


def test_sound_becomes_a_streamed_transcript():
    speech = FakeSpeech()

    async def main() -> None:
        async with connected(speech) as client:
            await client.write_event(asr.Transcribe(language="en").event())
            await client.write_event(AudioStart(16000, 2, 1).event())
            for _ in range(100):  # 3.2 s, in pieces that end within a sample
                await client.write_event(AudioChunk(16000, 2, 1, bytes(1023)).event())
            await client.write_event(AudioStop().event())
            events = await until(client, "transcript-stop")
            kinds = [event.type for event in events]
            assert kinds[0] == "transcript-start" and kinds[-2] == "transcript"
            text = "".join(e.data["text"] for e in events if "chunk" in e.type)
            assert text == events[-2].data["text"] == "word0 word1 word2"
            await settled(speech)

    asyncio.run(main())


def test_home_assistants_sequence_is_spoken_once_and_stopped():
    speech = FakeSpeech()

    async def main() -> None:
        async with connected(speech) as client:
            voice = tts.SynthesizeVoice(name="bob")
            await client.write_event(tts.SynthesizeStart(voice=voice).event())
            for piece in ("Hel", "lo the", "re wor", "ld."):
                await client.write_event(tts.SynthesizeChunk(piece).event())
            again = tts.Synthesize("Hello there world.", voice=voice)
            await client.write_event(again.event())
            await client.write_event(tts.SynthesizeStop().event())
            events = await until(client, "synthesize-stopped")
            kinds = [event.type for event in events]
            chunks = ["audio-chunk"] * 3
            end = ["audio-stop", "synthesize-stopped"]
            assert kinds == ["audio-start", *chunks, *end]
            assert {e.data["rate"] for e in events[:4]} == {24000}
            assert speech.said == ["Hello", "there", "world."]
            await client.write_event(tts.Synthesize("And again.").event())
            assert len(await until(client, "audio-stop")) == 4
            await client.write_event(tts.Synthesize("").event())
            assert len(await until(client, "audio-stop")) == 2
            await settled(speech)

    asyncio.run(main())


def test_a_client_that_hangs_up_gives_its_places_back():
    speech = FakeSpeech()

    async def main() -> None:
        async with served(speech) as port:
            async with AsyncTcpClient("127.0.0.1", port) as client:
                await client.write_event(tts.SynthesizeStart().event())
                await client.write_event(AudioStart(16000, 2, 1).event())
                while len(speech.open) < 2:
                    await asyncio.sleep(0.01)
            await settled(speech)

    asyncio.run(main())


def test_errors_are_told_in_a_sentence_and_end_the_connection():
    async def told(event: Event, bounds: Bounds | None = None) -> str:
        async with connected(FakeSpeech(), bounds) as client:
            await client.write_event(event)
            words = (await until(client, "error"))[-1].data["text"]
            assert await client.read_event() is None
            return words

    voice = tts.SynthesizeVoice(name="carl")
    long = tts.Synthesize("a" * 50).event()
    chunk = AudioStart(1, 2, 1).event()
    assert "anna or bob" in asyncio.run(told(tts.Synthesize("a", voice=voice).event()))
    assert "50" not in asyncio.run(told(long, Bounds(text_chars=40)))
    assert "4000" in asyncio.run(told(chunk))
    payload = Event("audio-chunk", {}, bytes(200))
    assert "payload_length" in asyncio.run(told(payload, Bounds(payload_bytes=100)))


def test_whatever_strangers_send_the_server_lives_and_frees_its_places():
    chance = random.Random(1)
    speech = FakeSpeech()
    kinds = ["synthesize", "synthesize-start", "synthesize-chunk", "audio-start"]
    kinds += ["audio-chunk", "audio-stop", "transcribe", "describe", "ping"]
    odd = [None, -1, 1e99, "x", [], {}, True, 2**70]
    keys = ["text", "voice", "rate", "width", "channels", "language", "text_format"]

    def line() -> bytes:
        if chance.random() < 0.2:
            return chance.randbytes(chance.randrange(1, 200)) + b"\n"
        head = f'{{"type": "{chance.choice(kinds)}", "data": {{'.encode()
        data = {chance.choice(keys): chance.choice(odd) for _ in range(3)}
        head += dumps(data)[1:].encode()
        if chance.random() < 0.2:
            head += b', "payload_length": ' + dumps(chance.choice(odd)).encode()
        return head + b"}\n"

    async def main() -> None:
        bounds = Bounds(event_s=0.2)
        async with served(speech, bounds) as port:
            for _ in range(200):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"".join(line() for _ in range(3)))
                writer.write_eof()
                await asyncio.wait_for(reader.read(), PATIENCE_S)
                writer.close()
            await settled(speech)
            async with AsyncTcpClient(
                "127.0.0.1", port, read_timeout=PATIENCE_S
            ) as client:
                await client.write_event(Describe().event())
                assert (await client.read_event()) is not None

    asyncio.run(main())
