"""moshi-server's description of itself."""

from typing import TYPE_CHECKING

from ....engines.stt.batch import STTBatch
from ....engines.tts.batch import TTSBatch
from ...service import Service

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
