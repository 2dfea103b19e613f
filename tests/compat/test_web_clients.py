"""The message sequences of the published clients, against a running server.

Sources: kyutai-labs/moshi at e6a55d2: client/src (the web page), moshi/client.py and
client_gradio.py, rust/moshi-cli/src/multistream.rs.
"""

import asyncio
import json
import struct

import numpy as np
import pytest
import sphn
from websockets.asyncio.client import connect

from tests.serve.conftest import batch, serve  # noqa: F401
from tests.serve.ogg import TAGS, opus_head, page

WEB_QUERY = (
    "worker_auth_id=&email=&text_temperature=0.7&text_topk=25&audio_temperature=0.8"
    "&audio_topk=250&pad_mult=0&text_seed=418204&audio_seed=77120"
    "&repetition_penalty_context=64&repetition_penalty=1"
)


def packets(seconds: float) -> list[bytes]:
    """Opus packets of a tone, taken out of sphn's pages."""
    writer, found = sphn.OpusStreamWriter(24000), []
    t = np.arange(int(24000 * seconds)) / 24000
    pcm = (0.3 * np.sin(2 * np.pi * 300 * t)).astype(np.float32)
    for start in range(0, len(pcm), 1920):
        found += _unpacked(bytes(writer.append_pcm(pcm[start : start + 1920])))
    return [packet for packet in found if not packet.startswith(b"Opus")]


def _unpacked(stream: bytes) -> list[bytes]:
    out = []
    while stream:
        count = stream[26]
        lacing, at = stream[27 : 27 + count], 27 + count
        packet = b""
        for size in lacing:
            packet += stream[at : at + size]
            at += size
            if size < 255:
                out.append(packet)
                packet = b""
        stream = stream[at:]
    return out


class Decoder:
    """What each client does with what comes."""

    def __init__(self) -> None:
        self.sound = sphn.OpusStreamReader(24000)
        self.samples = 0
        self.kinds: list[int] = []

    def take(self, data: bytes | str) -> None:
        """Kyutai's page throws on kinds above 7 and on metadata that is no JSON."""
        assert isinstance(data, bytes) and data[0] <= 7
        assert data[0] != 5, data[1:]
        self.kinds.append(data[0])
        if data[0] == 1:
            self.samples += len(self.sound.append_bytes(data[1:]))
        elif data[0] == 4:
            json.loads(data[1:])


async def _until_heard(socket, decoder: Decoder, samples: int) -> None:
    """Messages come for ever, even when no sound does: the server pings."""

    async def listen() -> None:
        while decoder.samples < samples:
            decoder.take(await socket.recv())

    await asyncio.wait_for(listen(), 30)


def test_kyutais_page(serve):  # noqa: F811
    """Waits for the handshake; header pages, then two frames of Opus a page."""

    async def run() -> Decoder:
        decoder = Decoder()
        async with connect(f"{serve().chat(WEB_QUERY)}") as socket:
            while 0 not in decoder.kinds:
                decoder.take(await socket.recv())
            await socket.send(b"\x01" + page([opus_head()], 0, flags=2))
            await socket.send(b"\x01" + page([TAGS], 1))
            sound = packets(0.8)
            for n in range(0, len(sound), 2):
                await socket.send(b"\x01" + page(sound[n : n + 2], 2 + n // 2))
            await _until_heard(socket, decoder, 8 * 1920)
        return decoder

    decoder = asyncio.run(run())
    assert decoder.kinds.index(4) < decoder.kinds.index(0) < decoder.kinds.index(1)


@pytest.mark.parametrize("query", ["", "queue=1"])
def test_the_pytorch_packages_client(serve, query):  # noqa: F811
    """Speaks as soon as it is connected, also while another is just leaving."""
    url = serve().chat(query).rstrip("?")

    async def speak(socket, writer, frames: int) -> None:
        for _ in range(frames):
            tone = 0.3 * np.sin(np.arange(1920) / 10)  # silence would be skipped
            frame = writer.append_pcm(tone.astype(np.float32))
            await socket.send(b"\x01" + bytes(frame))

    async def run() -> int:
        decoder, writer = Decoder(), sphn.OpusStreamWriter(24000)
        async with connect(url) as first:
            while (await first.recv())[0] != 0:
                pass
            async with connect(url) as socket:
                await speak(socket, writer, 1)
                await asyncio.sleep(0.1)
                await first.close()
                while query and 0 not in decoder.kinds:  # who queues is not heard yet
                    decoder.take(await socket.recv())
                await speak(socket, writer, 7)
                await _until_heard(socket, decoder, 8 * 1920)
        return decoder.samples

    assert asyncio.run(run()) == 8 * 1920


@pytest.mark.parametrize("first_restart", [False, True])
def test_the_rust_client(serve, first_restart):  # noqa: F811
    """Headers come with the first sound; a page per packet; R restarts."""

    async def run() -> Decoder:
        decoder = Decoder()
        async with connect(serve().chat("")) as socket:
            if first_restart:
                await socket.send(b"\x03\x03")
            head = page([opus_head()], 0, flags=2, serial=42)
            head += page([TAGS], 1, serial=42)
            for n, packet in enumerate(packets(0.8)):
                await socket.send(b"\x01" + head + page([packet], 2 + n, serial=42))
                head = b""
            await _until_heard(socket, decoder, 8 * 1920)
        return decoder

    decoder = asyncio.run(run())
    assert (3 in decoder.kinds) is first_restart


def test_the_pytorch_packages_gradio_client(serve):  # noqa: F811
    """Sends a message per 20 ms, whose sound is empty until sphn has a whole page."""

    async def run() -> tuple[int, int]:
        decoder, writer, empty = Decoder(), sphn.OpusStreamWriter(24000), 0
        async with connect(serve().chat("").rstrip("?")) as socket:
            for start in range(0, 8 * 1920, 480):
                tone = 0.3 * np.sin(np.arange(start, start + 480) / 10)
                sound = bytes(writer.append_pcm(tone.astype(np.float32)))
                empty += not sound
                await socket.send(b"\x01" + sound)
            await _until_heard(socket, decoder, 7 * 1920)
        return decoder.samples, empty

    samples, empty = asyncio.run(run())
    assert samples >= 7 * 1920 and empty > 0


def test_the_handshake_has_the_two_numbers_of_the_rust_server(serve):  # noqa: F811
    async def run() -> bytes:
        async with connect(serve().chat("")) as socket:
            while (data := await socket.recv())[0] != 0:
                pass
            assert isinstance(data, bytes)
            return data

    assert struct.unpack("<BII", asyncio.run(run())) == (0, 0, 0)
