"""The application: every protocol's sockets and routes, the page, health, metrics."""

import logging
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, MoshiError
from .gate.guard import App, Guard
from .gate.refusal import Refused
from .gate.security import Policy
from .protocols import PROTOCOLS, Protocol
from .protocols.base import Answer, ServeSocket
from .replies import has_gone
from .service import Service

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response, WebSocket

_log = logging.getLogger(__name__)


def page_folder() -> Path:
    """Our own page, in the package."""
    return Path(str(files("moshi_mlx.serve") / "static"))


def check_static(folder: str | Path) -> Path:
    """A folder with an index.html in it.

    Raises: ConfigError if it is not such a folder.
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
) -> App:
    """Everything that the server answers, behind the guard.

    Args:
        static: folder of the page, None for no page.
    """
    from fastapi import FastAPI, HTTPException, Response
    from fastapi.staticfiles import StaticFiles

    class Page(StaticFiles):
        async def get_response(self, path: str, scope: Any) -> Response:
            if any(part.startswith(".") for part in Path(path).parts):
                raise HTTPException(404)  # .git, .env: not part of a page
            return await super().get_response(path, scope)

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    for protocol in PROTOCOLS.values():
        _add_protocol(app, protocol, service)
    _add_reports(app, service)
    if static is not None:
        app.mount("/", Page(directory=static, html=True))
    manners = [protocol.manners for protocol in PROTOCOLS.values()]
    return Guard(app, policy, service.gate, manners)


def _add_reports(app: "FastAPI", service: Service) -> None:
    """The server's own status."""
    from fastapi import Response
    from fastapi.responses import PlainTextResponse

    async def health(response: Response) -> dict[str, str]:
        if service.ready:
            return {"status": "ok"}
        response.status_code = 503
        return {"status": "the model has stopped"}

    async def build_info() -> dict[str, Any]:
        known = {**service.build_info, "models": service.offers}
        if service.about is None:
            return known
        places = {"places": service.places, "taken": service.lobby.taken}
        more = {"defaults": service.about.defaults, "sees": service.eyes.open}
        more |= {"adapters": list(service.adapters)}
        known = {**known, **places, **more}
        persona = service.personas and service.personas.about
        return {**known, "persona": persona} if persona else known

    async def metrics() -> PlainTextResponse:
        text = service.metrics_text()
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    for path, answer in (
        ("/health", health),
        ("/api/build_info", build_info),
        ("/metrics", metrics),
    ):
        app.add_api_route(path, answer, methods=["GET", "HEAD"])


def _add_protocol(app: "FastAPI", protocol: Protocol, service: Service) -> None:
    for path, serve in protocol.sockets.items():
        app.add_api_websocket_route(path, _endpoint(protocol, serve, service))
    for route in protocol.routes:
        answer = _answer(protocol, route.answer, service)
        app.add_route(route.path, answer, methods=[route.method])


def _endpoint(
    protocol: Protocol, serve: ServeSocket, service: Service
) -> "Callable[[WebSocket], Awaitable[None]]":
    from fastapi import WebSocket

    async def endpoint(websocket: WebSocket) -> None:
        _be_patient(protocol, websocket.scope)
        await serve(service, websocket)

    return endpoint


def _answer(
    protocol: Protocol, answer: Answer, service: Service
) -> "Callable[[Request], Awaitable[Response]]":
    from fastapi import Request, Response

    async def endpoint(request: Request) -> Response:
        _be_patient(protocol, request.scope)
        try:
            return await answer(service, request)
        except Refused as error:
            refused = error
        except MoshiError as error:
            refused = protocol.manners.refused(error)
        except Exception as error:  # its message may name files on the server
            if has_gone(error):
                refused = Refused(499, "the client has gone.")
            else:
                _log.exception("a request failed: %s", request.url.path)
                refused = Refused(500, "the server failed: see its log.")
        media_type, body = protocol.manners.shape(refused)
        return Response(body, refused.status, refused.headers, media_type or None)

    return endpoint


def _be_patient(protocol: Protocol, scope: Any) -> None:
    connection = scope.get("gate")
    if protocol.patient and connection is not None:
        connection.patient = True
