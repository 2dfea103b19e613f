"""The Wyoming port: takes connections, and can announce itself."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from ....errors import ConfigError, ProtocolError
from ...gate.security import is_local
from ...speech import SpeechService
from .announce import announced
from .client import WyomingClient
from .wire import Bounds, write_event

_log = logging.getLogger(__name__)
_BOUNDS = Bounds()
_GOODBYE_S = 2.0  # for clients to end in, when the port is closed
NO_PASSWORD = (
    "Warning: Wyoming has no password. Everybody who can reach {host}:{port} can use "
    "the models; leave --wyoming-host out unless you trust the whole network."
)


@dataclass(frozen=True)
class WyomingPort:
    """The address for Wyoming.

    Attributes:
        host, port: to listen on; port 0 takes a free one.
        announce: whether Home Assistant is to find it by itself (Zeroconf).
    """

    host: str = "127.0.0.1"
    port: int = 0
    announce: bool = False

    @property
    def words(self) -> str:
        """What is printed when the server runs."""
        return f"Home Assistant finds Wyoming at {self.host}:{self.port}"

    def warning(self) -> str | None:
        """A warning for opening the port to other machines."""
        if is_local(self.host):
            return None
        return NO_PASSWORD.format(host=self.host, port=self.port)

    @contextlib.asynccontextmanager
    async def open(self, speech: SpeechService) -> AsyncIterator[int]:
        """Serve while the context is open; yields the port.

        Raises: ConfigError if the address cannot be used.
        """
        async with contextlib.AsyncExitStack() as stack:
            port = await stack.enter_async_context(
                wyoming_server(speech, self.host, self.port)
            )
            if self.announce:
                await stack.enter_async_context(announced(self.host, port))
            _log.info("Wyoming listens on %s:%d", self.host, port)
            yield port


async def _refuse(writer: asyncio.StreamWriter, bounds: Bounds) -> None:
    from wyoming.error import Error

    words = f"{bounds.clients} clients are connected: try later."
    with contextlib.suppress(OSError, ProtocolError):  # it may have gone already
        await write_event(Error(words, "NoPlace").event(), writer, bounds)


@contextlib.asynccontextmanager
async def wyoming_server(
    speech: SpeechService,
    host: str = "127.0.0.1",
    port: int = 0,
    bounds: Bounds = _BOUNDS,
) -> AsyncIterator[int]:
    """Answer Wyoming clients in this event loop, while the context is open.

    Args:
        speech: the models.
        port: 0 takes a free one.

    Yields: the port.

    Raises: ConfigError if the address cannot be used.
    """
    clients: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(clients) >= bounds.clients:
                _log.warning("a Wyoming client was refused: %d are here", len(clients))
                await _refuse(writer, bounds)
                return
            clients.add(task)
            await WyomingClient(speech, reader, writer, bounds).run()
        except asyncio.CancelledError:
            pass  # the server ends; asyncio.streams would log it as a failure
        finally:
            clients.discard(task)
            writer.close()

    try:
        server = await asyncio.start_server(serve, host, port, limit=bounds.line_bytes)
    except OSError as error:
        raise ConfigError(
            f"Wyoming cannot listen on {host}:{port}: another program has the port, or "
            "this machine does not have the address. Choose another --wyoming-port."
        ) from error
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in clients:
            task.cancel()
        if clients:  # one may wait for a model that is busy
            await asyncio.wait(clients, timeout=_GOODBYE_S)
