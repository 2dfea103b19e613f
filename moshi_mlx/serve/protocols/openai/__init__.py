"""OpenAI's audio API: speech and transcriptions under /v1.

Source: the types of the `openai` package, 3.57.0.
"""

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ...gate.refusal import Manners, Refused
from .errors import Handler, Refusal, answering, error_body
from .models import THEIR_VOICES, AudioModels
from .speech import speak
from .transcriptions import transcribe

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

Answer = Callable[[AudioModels, "Request"], Awaitable["Response"]]


async def _models(models: AudioModels, _request: "Request") -> "Response":
    from fastapi.responses import JSONResponse

    return JSONResponse({"object": "list", "data": models.listed()})


async def _model(models: AudioModels, request: "Request") -> "Response":
    from fastapi.responses import JSONResponse

    return JSONResponse(models.found(request.path_params["name"]))


async def _audio_models(models: AudioModels, _request: "Request") -> "Response":
    from fastapi.responses import JSONResponse

    return JSONResponse({"models": [{"id": m["id"]} for m in models.listed()]})


async def _voices(models: AudioModels, _request: "Request") -> "Response":
    from fastapi.responses import JSONResponse

    names = [*models.voice_map, *await models.voices(), *THEIR_VOICES]
    listed = [{"id": name, "name": name} for name in dict.fromkeys(names)]
    return JSONResponse({"voices": listed})


async def _unknown(_models: AudioModels, request: "Request") -> "Response":
    path = request.url.path[:80]
    raise Refusal(404, f"there is no {request.method} {path} here.", code="unknown_url")


ROOT = "/v1"
ROUTES: list[tuple[str, str, Answer]] = [
    ("POST", f"{ROOT}/audio/speech", speak),
    ("POST", f"{ROOT}/audio/transcriptions", transcribe),
    ("GET", f"{ROOT}/audio/voices", _voices),
    ("GET", f"{ROOT}/audio/models", _audio_models),
    ("GET", f"{ROOT}/models", _models),
    ("GET", f"{ROOT}/models/{{name:path}}", _model),
]


def _shape(refused: Refused) -> tuple[str, bytes]:
    body = error_body(refused.status, refused.words, refused.param, refused.code)
    return "application/json", json.dumps(body).encode()


# Open WebUI asks for the lists without a key.
_OPEN = [("GET", f"{ROOT}{path}") for path in ("/models", "/audio/voices")]
MANNERS = Manners((ROOT,), _shape, (*_OPEN, ("GET", f"{ROOT}/audio/models")))
_METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]


def add_routes(app: "FastAPI", models: AudioModels) -> None:
    """Answer everything under /v1."""

    def bound(answer: Answer) -> Handler:
        return answering(lambda request: answer(models, request))

    for method, path, answer in ROUTES:
        methods = ["GET", "HEAD"] if method == "GET" else [method]
        app.add_api_route(path, bound(answer), methods=methods, response_model=None)
    for path in (ROOT, f"{ROOT}/{{rest:path}}"):
        app.add_api_route(path, bound(_unknown), methods=_METHODS, response_model=None)
