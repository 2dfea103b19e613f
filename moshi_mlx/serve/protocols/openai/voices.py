"""Voices: listed, made from recordings, and removed."""

from typing import TYPE_CHECKING

from ....errors import NotServed
from ...gate.refusal import Refused
from ...service import Service
from .errors import refused
from .forms import posted
from .models import THEIR_VOICES

if TYPE_CHECKING:
    from fastapi import Request, Response


async def voices(service: Service, _request: "Request") -> "Response":
    """All names that can be requested."""
    from fastapi.responses import JSONResponse

    speech = service.speech
    own = await speech.voices.names()
    names = [*speech.voice_map, *own, *THEIR_VOICES]
    told = [
        {"id": name, "name": name, **({} if name in own else {"alias": True})}
        for name in dict.fromkeys(names)
    ]
    return JSONResponse({"voices": told})


async def create(service: Service, request: "Request") -> "Response":
    """A form with a name and a recording becomes a voice with that name."""
    from fastapi.responses import JSONResponse

    await service.speech.speaking()
    async with posted(request, "audio_sample") as (path, fields):
        name = fields.get("name")
        if not isinstance(name, str) or name.lower() in (*THEIR_VOICES, "default"):
            raise Refused(400, "name must be a name that no other voice has.", "name")
        try:
            with service.speech.job():
                codes = await service.speech.voices.clone(path)
            voice = await service.speech.voices.keep(name, codes)
        except NotServed as error:
            raise Refused(400, str(error), "model", "not_supported") from error
        except Exception as error:
            raise refused(error, str(path)) from error
    return JSONResponse(
        {
            "id": voice.name,
            "object": "audio.voice",
            "name": voice.name,
            "created_at": voice.created,
        }
    )


async def delete(service: Service, request: "Request") -> "Response":
    """Remove a voice that was made here."""
    from fastapi.responses import JSONResponse

    name = request.path_params["name"]
    if not await service.speech.voices.forget(name):
        words = f"no voice {name[:80]!r} was made here."
        raise Refused(404, words, "voice", "voice_not_found")
    return JSONResponse({"id": name, "object": "audio.voice.deleted", "deleted": True})
