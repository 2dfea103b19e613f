"""Voices made from recordings: ``/api/voice``. Named ones are kept."""

from typing import TYPE_CHECKING

from ....errors import MoshiError, NotServed
from ...gate.refusal import Refused
from ...service import Service
from ...uploads import uploaded
from .messages import Singles, message

if TYPE_CHECKING:
    from fastapi import Request, Response


async def clone(service: Service, request: "Request") -> "Response":
    """A recording as the body; a voice comes back, to be sent before a text.

    With ``?name=`` it is also kept, and can be requested by that name.
    """
    from fastapi.responses import Response

    voices = service.speech.voices
    await service.speech.speaking()
    async with uploaded(request, service.limits.upload_bytes) as path:
        try:
            with service.speech.job(), service.speech.cloned.timed():
                codes = await voices.clone(path)
        except NotServed:
            raise
        except MoshiError as error:
            refused = Refused.of(error)
            refused.words = refused.words.replace(str(path), "the file")
            raise refused from error
    if (name := request.query_params.get("name")) is not None:
        await voices.keep(name, codes)
    body = message("Voice", embeddings=Singles(codes), shape=[1, *codes.shape])
    return Response(body, media_type="application/msgpack")


async def listed(service: Service, _request: "Request") -> "Response":
    """The voices that are kept."""
    from fastapi.responses import JSONResponse

    made = await service.speech.voices.made()
    return JSONResponse([{"name": v.name, "created": v.created} for v in made])


async def delete(service: Service, request: "Request") -> "Response":
    """Remove a voice that is kept."""
    from fastapi.responses import Response

    name = request.path_params["name"]
    if not await service.speech.voices.forget(name):
        raise Refused(404, f"no voice {name[:80]!r} is kept.")
    return Response(status_code=204)
