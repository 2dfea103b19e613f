"""OpenAI's API under /v1: speech, transcriptions, translations, completions.

Source: the types of the `openai` package, 3.57.0.
"""

from typing import TYPE_CHECKING

from ...gate.refusal import Manners, Refused
from ...service import Service
from ..base import Protocol, Route
from .completions import chat, complete
from .errors import refused, shape
from .models import found, listed
from .speech import speak
from .transcriptions import transcribe, translate
from .voices import create, delete, voices

if TYPE_CHECKING:
    from fastapi import Request, Response


async def _models(service: Service, _request: "Request") -> "Response":
    from fastapi.responses import JSONResponse

    return JSONResponse({"object": "list", "data": listed(service)})


async def _model(service: Service, request: "Request") -> "Response":
    from fastapi.responses import JSONResponse

    return JSONResponse(found(service, request.path_params["name"]))


async def _audio_models(service: Service, _request: "Request") -> "Response":
    from fastapi.responses import JSONResponse

    return JSONResponse({"models": [{"id": m["id"]} for m in listed(service)]})


async def _unknown(_service: Service, request: "Request") -> "Response":
    path = request.url.path[:80]
    raise Refused(404, f"there is no {request.method} {path} here.", code="unknown_url")


ROOT = "/v1"
_LISTS = {"/models": _models, "/audio/voices": voices, "/audio/models": _audio_models}
_METHODS = ("GET", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")

PROTOCOL = Protocol(
    routes=[
        Route("POST", f"{ROOT}/audio/speech", speak),
        Route("POST", f"{ROOT}/audio/transcriptions", transcribe),
        Route("POST", f"{ROOT}/audio/translations", translate),
        Route("POST", f"{ROOT}/completions", complete),
        Route("POST", f"{ROOT}/chat/completions", chat),
        *(Route("GET", f"{ROOT}{path}", answer) for path, answer in _LISTS.items()),
        Route("GET", f"{ROOT}/models/{{name:path}}", _model),
        Route("POST", f"{ROOT}/audio/voices", create),
        Route("DELETE", f"{ROOT}/audio/voices/{{name}}", delete),
        *(Route(method, ROOT, _unknown) for method in _METHODS),
        *(Route(method, f"{ROOT}/{{rest:path}}", _unknown) for method in _METHODS),
    ],
    # Open WebUI asks for the lists without a key.
    manners=Manners(
        (ROOT,), shape, [("GET", f"{ROOT}{path}") for path in _LISTS], refused
    ),
)
