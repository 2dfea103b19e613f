"""The server that runs the application: uvicorn behind the gate."""

import asyncio
import gc
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from typing import Any

from ..errors import ConfigError
from . import event_loop
from .endings import signals_to
from .gate.guard import App
from .service import Service

Beside = Callable[[], AbstractAsyncContextManager[object]]

_SHUTDOWN_S = 3  # for conversations to end in
# The system would buffer 40 s of sound for a stalled reader, who would then hear all of
# it before the present. With this, the oldest replies are dropped instead
# (Limits.unsent_frames).
_SEND_BUFFER = 65536  # bytes: 0.7 s of float32 samples


def run_server(
    app: App,
    service: Service,
    host: str,
    port: int,
    tls: ssl.SSLContext | None = None,
    on_start: Callable[[int], None] | None = None,
    beside: Beside = nullcontext,
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP, then tell all clients and stop cleanly.

    Args:
        port: 0 takes a free one.
        on_start: called with the port as soon as connections are accepted.
        beside: contexts that are open while the server runs, such as another port.

    Raises: ConfigError if the address cannot be used.
    """
    server = make_server(app, service, host, port, tls, on_start, beside)
    server.capture_signals = lambda: signals_to(server.handle_exit)
    # Freeze everything that exists now, so that garbage collection only looks at
    # connections. It is short then and may run often: it leaves 5 MiB of old
    # connections instead of 12.
    gc.collect()
    gc.freeze()
    gc.set_threshold(500, 5, 2)
    try:
        server.run()
    except SystemExit as error:  # uvicorn raises it if it cannot bind
        raise ConfigError(
            f"{host}:{port} cannot be listened on: another program has the port, or "
            "this machine does not have the address. Choose another --port."
        ) from error
    finally:
        service.thread.close(event_loop.PATIENCE_S)  # refuses what waits for it


def make_server(
    app: App,
    service: Service,
    host: str,
    port: int,
    tls: ssl.SSLContext | None = None,
    on_start: Callable[[int], None] | None = None,
    beside: Beside = nullcontext,
):
    """A uvicorn server behind the service's gate.

    It ends conversations before it stops itself.
    """
    import uvicorn

    gate = service.gate
    gate.tls = tls
    opened = AsyncExitStack()

    class Server(uvicorn.Server):
        def run(self, sockets: list[Any] | None = None) -> None:
            event_loop.run(self.serve(sockets))

        async def startup(self, sockets: list[Any] | None = None) -> None:
            await super().startup(sockets)
            for listening in self.servers:
                for taken in listening.sockets:  # connections inherit it
                    taken.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            gate.keep(asyncio.create_task(gate.watch()))
            await opened.enter_async_context(beside())
            if on_start is not None and self.started:
                on_start(self.servers[0].sockets[0].getsockname()[1])

        async def shutdown(self, sockets: list[Any] | None = None) -> None:
            for listening in self.servers:
                listening.close()
            service.closing.set()
            await opened.aclose()
            loop = asyncio.get_running_loop()
            until = loop.time() + _SHUTDOWN_S
            while self.server_state.tasks and loop.time() < until:
                await asyncio.sleep(0.02)
            gate.close()
            while gate.count and loop.time() < until + 1:
                await asyncio.sleep(0.01)  # uvicorn fails on half-open connections
            await super().shutdown(sockets)

    return Server(_config(app, service, host, port))


def _config(app: App, service: Service, host: str, port: int) -> Any:
    """uvicorn's, of a server whose connections come through the gate."""
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    def behind_gate(**uvicorns: Any) -> asyncio.Protocol:
        return service.gate.connection(lambda: H11Protocol(**uvicorns))

    return uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        lifespan="off",
        loop="asyncio",
        http=behind_gate,  # type: ignore[arg-type]  # called like a class
        ws="websockets-sansio",
        ws_max_size=service.limits.message_bytes,
        ws_per_message_deflate=False,  # sound hardly compresses; bombs expand
        ws_ping_interval=10.0,
        ws_ping_timeout=20.0,
        proxy_headers=False,  # the gate reads them, and trusts only known proxies
        timeout_graceful_shutdown=1,
        server_header=False,
    )
