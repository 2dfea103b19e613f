"""Pictures in a conversation: the first one, which it waits for, and later ones."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ....errors import ImageError, ProtocolError
from ...eyes import Look
from ...service import Service
from ...tasks import within
from . import messages as protocol
from .ending import Ending, Socket
from .messages import MessageKind

PICTURE = bytes([MessageKind.IMAGE])


@dataclass
class Early:
    """A client's messages before it had a place.

    Attributes:
        messages: the first ones, of which at most some kilobytes are kept.
        pixels: of its picture.
    """

    messages: list[bytes] = field(default_factory=list)
    pixels: NDArray[np.uint8] | None = None


class Pictures:
    """The pictures of one client.

    Args:
        service: the service with the model.
        socket: of the client.
        look: how pictures are to be seen.
        send: sends messages to the client.

    Attributes:
        sight: the current picture: the server's own, or the client's newest.
    """

    def __init__(
        self,
        service: Service,
        socket: Socket,
        look: Look,
        send: Callable[[bytes], Awaitable[None]],
    ):
        self.sight = service.eyes.first_sight(look)
        self._eyes, self._limits = service.eyes, service.limits
        self._socket, self._look, self._send = socket, look, send
        self._task: asyncio.Task[None] | None = None

    async def first(self, early: Early) -> None:
        """Wait for the picture that the client has promised.

        Raises: ImageError if it is not an image; the Ending if nothing comes.
        """
        if not self._eyes.open or not self._look.promised:
            return
        pixels = early.pixels
        if pixels is None and not early.messages:
            pixels = await self._received(early)
        if pixels is not None:
            self.sight = await self._eyes.encode(pixels, self._look)

    async def _received(self, early: Early) -> NDArray[np.uint8] | None:
        """The picture, if it comes first; None if something else does."""
        until = time.monotonic() + self._limits.idle_s
        receive, patience = self._socket.receive, self._limits.ping_s
        while time.monotonic() < until:
            try:
                event = await within(receive(), patience)
            except asyncio.TimeoutError:
                await self._send(protocol.PING)
                continue
            if event["type"] == "websocket.disconnect":
                raise Ending("closed", 1000)
            data = event.get("bytes") or b""
            if data[:1] == PICTURE:
                return await self._eyes.read(data[1:], self._look)
            if data:
                early.messages.append(data)
                return None
        words = "the picture that was announced did not come: send it first, as kind 8."
        raise Ending("idle", 1000, words)

    def change(
        self,
        file: bytes,
        see: Callable[[], Awaitable[None]],
        fail: Callable[[Exception], None],
    ) -> None:
        """Show other pictures while the conversation continues; the newest is used.

        Args:
            see: called when it is encoded.
            fail: called with any error that is not about the picture.
        """
        self.close()
        self._task = asyncio.create_task(self._change(file, see, fail))

    async def _change(
        self,
        file: bytes,
        see: Callable[[], Awaitable[None]],
        fail: Callable[[Exception], None],
    ) -> None:
        try:
            pixels = await self._eyes.read(file, self._look)
            self.sight = await self._eyes.encode(pixels, self._look)
            await see()
            await self._send(protocol.metadata({"image": {"seen": True}}))
        except (ImageError, ProtocolError) as error:  # no reason to stop talking
            await self._send(protocol.metadata({"image": {"error": str(error)}}))
        except Exception as error:
            fail(error)

    def close(self) -> None:
        """Show no more pictures."""
        if self._task is not None:
            self._task.cancel()
