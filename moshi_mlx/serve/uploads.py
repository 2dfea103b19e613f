"""Files that clients send: streamed to a private temporary file, and bounded."""

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .gate.refusal import Refused

if TYPE_CHECKING:
    from fastapi import Request


@asynccontextmanager
async def uploaded(
    request: "Request", most: int, suffix: str = ""
) -> AsyncIterator[Path]:
    """The body of a request as a file that is gone afterwards.

    Args:
        most: bytes.
        suffix: of the file's name, chosen by us.

    Raises: Refused for more than that, and for nothing.
    """
    too_much = Refused(413, f"a file may have {most >> 20} MiB at most: send less.")
    if int(request.headers.get("content-length") or 0) > most:
        raise too_much
    handle, name = tempfile.mkstemp(suffix, "moshi-mlx-")
    path = Path(name)
    try:
        size = 0
        with os.fdopen(handle, "wb") as file:
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise too_much
                file.write(part)
        if not size:
            raise Refused(400, "the body is empty: send a sound file.")
        yield path
    finally:
        with suppress(OSError):
            path.unlink()
