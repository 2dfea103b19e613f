"""The application and the server that runs it: page, protocol, health, metrics."""

import asyncio
import gc
import socket
import ssl
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .gate.security import App, Guard, Policy
from .protocols import PROTOCOLS, Protocol
from .protocols.openai import ROOT, AudioModels, add_routes
from .protocols.openai.errors import error_body
from .service import Service

if TYPE_CHECKING:
    from fastapi import FastAPI, WebSocket

_SHUTDOWN_S = 5  # for conversations to end in
# The system would buffer 40 s of sound for a stalled reader, who would then hear it all
# before the present; with this the oldest replies go instead (Limits.unsent_frames).
_SEND_BUFFER = 65536  # bytes: 0.7 s of float32 samples


def page_folder() -> Path:
    """Our own page, as it lies in the package."""
    return Path(str(files("moshi_mlx.serve") / "static"))


def check_static(folder: str | Path) -> Path:
    """A folder with an index.html in it.

    Raises: ConfigError if it is none.
    """
    folder = Path(folder)
    if not (folder / "index.html").is_file():
        raise ConfigError(
            f"--static {folder}: there is no index.html in it. Name the folder of a "
            "built page, or 'none' for no page."
        )
    return folder


def make_app(
    service: Service,
    policy: Policy,
    static: Path | None,
    audio: AudioModels | None = None,
) -> App:
    """Everything that the server answers, behind the guard.

    Args:
        static: folder of the page, None for no page.
        audio: the models that answer OpenAI's clients.
    """
    app = _routes(service, static, audio or AudioModels())
    return Guard(app, policy, service.gate, {ROOT: error_body})


def _routes(service: Service, static: Path | None, audio: AudioModels) -> "FastAPI":
    from fastapi import FastAPI, HTTPException, Response
    from fastapi.responses import PlainTextResponse
    from fastapi.staticfiles import StaticFiles

    class Page(StaticFiles):
        async def get_response(self, path: str, scope: Any) -> Response:
            if any(part.startswith(".") for part in Path(path).parts):
                raise HTTPException(404)  # .git, .env: no part of a page
            return await super().get_response(path, scope)

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    async def health(response: Response) -> dict[str, str]:
        if service.ready:
            return {"status": "ok"}
        response.status_code = 503
        return {"status": "the model has stopped"}

    async def build_info() -> dict[str, Any]:
        wishes = service.about.wishes
        places = {"places": service.places, "taken": service.lobby.taken}
        defaults = {
            "text_temperature": wishes.temp_text,
            "text_topk": wishes.top_k_text,
            "audio_temperature": wishes.temp,
            "audio_topk": wishes.top_k,
        }
        return {**service.about.build_info, **places, "defaults": defaults}

    async def metrics() -> PlainTextResponse:
        text = service.metrics_text()
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    for path, protocol in PROTOCOLS.items():
        app.add_api_websocket_route(path, _endpoint(protocol, service))
    for path, answer in (
        ("/health", health),
        ("/api/build_info", build_info),
        ("/metrics", metrics),
    ):
        app.add_api_route(path, answer, methods=["GET", "HEAD"])
    add_routes(app, audio)
    if static is not None:
        app.mount("/", Page(directory=static, html=True))
    return app


def _endpoint(
    protocol: Protocol, service: Service
) -> "Callable[[WebSocket], Awaitable[None]]":
    from fastapi import WebSocket

    async def endpoint(websocket: WebSocket) -> None:
        await protocol(service, websocket)

    return endpoint


def run_server(
    app: App,
    service: Service,
    host: str,
    port: int,
    tls: ssl.SSLContext | None = None,
    on_start: Callable[[int], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then tell everybody and end in good order.

    Args:
        port: 0 takes a free one.
        on_start: called with the port as soon as connections are taken.

    Raises: ConfigError if the address cannot be had.
    """
    server = make_server(app, service, host, port, tls, on_start)
    # What is here now stays, so collections look at connections alone. They are short
    # then and may come often: what connections leave behind was 12 MiB, and is 5.
    gc.collect()
    gc.freeze()
    gc.set_threshold(500, 5, 2)
    try:
        server.run()
    except SystemExit as error:  # uvicorn's way to say that it could not bind
        raise ConfigError(
            f"{host}:{port} cannot be listened on: another program has the port, or "
            "this machine does not have the address. Choose another --port."
        ) from error


def make_server(
    app: App,
    service: Service,
    host: str,
    port: int,
    tls: ssl.SSLContext | None = None,
    on_start: Callable[[int], None] | None = None,
):
    """A uvicorn server behind the service's gate.

    It ends conversations before it ends itself.
    """
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    gate = service.gate
    gate.tls = tls

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[Any] | None = None) -> None:
            await super().startup(sockets)
            for listening in self.servers:
                for taken in listening.sockets:  # connections inherit it
                    taken.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            gate.keep(asyncio.create_task(gate.watch()))
            if on_start is not None and self.started:
                on_start(self.servers[0].sockets[0].getsockname()[1])

        async def shutdown(self, sockets: list[Any] | None = None) -> None:
            for listening in self.servers:
                listening.close()
            service.closing.set()
            loop = asyncio.get_running_loop()
            until = loop.time() + _SHUTDOWN_S
            while self.server_state.tasks and loop.time() < until:
                await asyncio.sleep(0.02)
            gate.close()
            while gate.count and loop.time() < until + 1:
                await asyncio.sleep(0.01)  # uvicorn fails on some that are half open
            await super().shutdown(sockets)

    def behind_gate(**uvicorns: Any) -> asyncio.Protocol:
        return gate.connection(lambda: H11Protocol(**uvicorns))

    config = uvicorn.Config(
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
        ws_per_message_deflate=False,  # sound does not deflate; a bomb inflates
        ws_ping_interval=10.0,
        ws_ping_timeout=20.0,
        proxy_headers=False,  # the gate reads them, and believes trusted proxies only
        timeout_graceful_shutdown=2,
        server_header=False,
    )
    return Server(config)
