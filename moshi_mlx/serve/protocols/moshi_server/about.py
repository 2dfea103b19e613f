"""What moshi-server says about itself, and voices made from a recording."""

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from ....engines.stt.batch import STTBatch
from ....engines.tts.batch import TTSBatch
from ....errors import MoshiError
from ...gate.refusal import Refused
from ...service import Service
from ...uploads import uploaded
from .messages import Singles, message

if TYPE_CHECKING:
    from fastapi import Request, Response


async def modules_info(service: Service, request: "Request") -> "Response":
    """The modules and their places: all values are strings."""
    from fastapi.responses import JSONResponse

    del request
    modules = []
    speech = service.speech
    if speech.stt is not None:
        modules.append(
            {
                "type": "batched_asr",
                "path": "/api/asr-streaming",
                "lm": speech.stt.name,
                "audio_tokenizer": "mimi",
                **_slots(speech.stt.value),
            }
        )
    if speech.tts is not None:
        modules.append(
            {
                "type": "py",
                "path": "/api/tts_streaming",
                "script": speech.tts.name,
                **_slots(speech.tts.value),
            }
        )
    return JSONResponse(modules)


def _slots(batch: STTBatch | TTSBatch | None) -> dict[str, str]:
    """The places of a batch; none before its model is loaded."""
    rows, taken = (0, 0) if batch is None else (batch.rows, batch.taken)
    return {"used_slots": str(taken), "total_slots": str(rows)}


async def clone(service: Service, request: "Request") -> "Response":
    """A recording as the body; a voice comes back, to be sent before a text."""
    from fastapi.responses import Response

    lazy = service.speech.tts
    if lazy is None:
        raise Refused(501, "this server has no model that speaks.")
    batch = await lazy.get()
    tts = batch.tts
    if tts.multi_speaker:
        raise Refused(
            501,
            "only Kyutai can make voices for this model: choose one by name, or serve "
            "a model that continues a recording (kyutai/tts-0.75b-en-public).",
        )
    async with uploaded(request, service.limits.upload_bytes) as path:
        try:
            prefix = await asyncio.to_thread(tts.get_prefix, path)
        except MoshiError as error:
            raise Refused(400, str(error).replace(str(path), "the file")) from error
    codes = await tts.owner.arun(lambda: np.array(prefix))
    body = message("Voice", embeddings=Singles(codes), shape=[1, *codes.shape])
    return Response(body, media_type="application/msgpack")
