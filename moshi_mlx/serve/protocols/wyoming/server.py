"""The Wyoming port: takes connections, and can announce itself."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from ....errors import ConfigError
from ...gate.security import is_local
from ...speech import SpeechService
from .announce import announced
from .client import WyomingClient
from .visits import Visits
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

    words = "too many clients are connected: try again later."
    with contextlib.suppress(OSError):  # it may have gone already
        await write_event(Error(words, "NoPlace").event(), writer, bounds)


class Leaving:
    """Connections that are being closed, and cut if nobody reads their last bytes."""

    def __init__(self, linger_s: float):
        self._linger_s = linger_s
        self._here: set[asyncio.StreamWriter] = set()

    def close(self, writer: asyncio.StreamWriter) -> None:
        writer.close()
        if writer.transport.get_write_buffer_size():
            self._here.add(writer)
            asyncio.get_running_loop().call_later(self._linger_s, self.cut, writer)

    def cut(self, writer: asyncio.StreamWriter) -> None:
        self._here.discard(writer)
        writer.transport.abort()

    def cut_all(self) -> None:
        for writer in list(self._here):
            self.cut(writer)


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
    visits, leaving = Visits(bounds), Leaving(bounds.linger_s)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        peer = writer.get_extra_info("peername")
        visit = visits.begin(task, str(peer[0]) if peer else "")
        try:
            if visit is None:
                _log.warning("a Wyoming client was refused: %d are here", len(visits))
                await _refuse(writer, bounds)
                return
            visit.client = WyomingClient(speech, reader, writer, bounds, visit.inflow)
            await visit.client.run()
        except asyncio.CancelledError:
            pass  # the server ends, or others need room; asyncio.streams would log it
        finally:
            if visit is not None:
                visits.end(visit)
            leaving.close(writer)

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
        if tasks := visits.end_all():  # one may wait for a model that is busy
            await asyncio.wait(tasks, timeout=_GOODBYE_S)
        leaving.cut_all()
