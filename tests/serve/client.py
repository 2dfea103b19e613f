"""A Moshi client of its own: knows the protocol's bytes, nothing of the package."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import sphn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

HANDSHAKE, AUDIO, TEXT, CONTROL, METADATA, ERROR, PING = range(7)
COLOURED, IMAGE = 7, 8
START, END_TURN, PAUSE, RESTART = range(4)
PATIENCE_S = 120.0  # for a message that must come


class Client:
    """One connection; what comes is kept by kind."""

    def __init__(self, socket: ClientConnection, opus: bool):
        self.socket, self.opus = socket, opus
        self.kinds: list[int] = []
        self.text = ""
        self.pcm: list[np.ndarray] = []
        self.metadata: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self.controls: list[int] = []
        self.colours: list[int] = []
        self._encoder = sphn.OpusStreamWriter(24000)
        self._decoder = sphn.OpusStreamReader(24000)

    async def receive(self) -> int:
        """Take one message; returns its kind."""
        data = await asyncio.wait_for(self.socket.recv(), PATIENCE_S)
        assert isinstance(data, bytes)
        kind, payload = data[0], data[1:]
        self.kinds.append(kind)
        if kind == AUDIO and self.opus:
            self.pcm.append(self._decoder.append_bytes(payload))
        elif kind == AUDIO:
            self.pcm.append(np.frombuffer(payload, "<f4"))
        elif kind == TEXT:
            self.text += payload.decode()
        elif kind == COLOURED:
            self.colours.append(payload[0])
            self.text += payload[1:].decode()
        elif kind == METADATA:
            self.metadata.append(json.loads(payload))
        elif kind == ERROR:
            self.errors.append(payload.decode())
        elif kind == CONTROL:
            self.controls.append(payload[0])
        return kind

    async def until(self, kind: int) -> None:
        """Take messages up to one of ``kind``."""
        while await self.receive() != kind:
            pass

    async def until_closed(self) -> int:
        """Take messages to the end; returns the close code."""
        try:
            while True:
                await self.receive()
        except ConnectionClosed as closed:
            assert closed.rcvd is not None, "the connection just broke"
            return closed.rcvd.code

    async def say(self, frame: np.ndarray) -> None:
        if self.opus:
            data = bytes(self._encoder.append_pcm(frame))
        else:
            data = frame.astype("<f4").tobytes()
        await self.socket.send(bytes([AUDIO]) + data)

    async def show(self, file: bytes) -> None:
        await self.socket.send(bytes([IMAGE]) + file)

    async def control(self, what: int) -> None:
        await self.socket.send(bytes([CONTROL, what]))

    async def converse(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Say each frame when the one before has been answered; returns the answers."""
        heard = len(self.pcm)
        for frame in frames:
            await self.say(frame)
            await self.until(AUDIO)
        return self.pcm[heard:]


@asynccontextmanager
async def joined(url: str, **options: Any) -> AsyncIterator[Client]:
    """A client that has been given a place."""
    async with arrived(url, **options) as client:
        await client.until(HANDSHAKE)
        yield client


@asynccontextmanager
async def arrived(url: str, **options: Any) -> AsyncIterator[Client]:
    """A client that is connected."""
    async with connect(url, max_size=None, compression=None, **options) as socket:
        yield Client(socket, "format=pcm" not in url)
