"""Request bodies: limited in memory, or a private temporary file."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .gate.refusal import Refused

if TYPE_CHECKING:
    from fastapi import Request


MOST_BODY = 1 << 20  # bytes of a posted text, including its JSON
SPARE_DISK = 256 << 20  # bytes to leave free: with less, no file is accepted
LOOK = 16 << 20  # bytes of a file between two checks of the disk


async def body_of(request: "Request", most: int = MOST_BODY) -> bytes:
    """The body of a request, whatever length it states, if any.

    Raises: Refused for more than ``most`` bytes.
    """
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > most:
            raise Refused(413, f"the body is longer than {most} bytes.")
    return bytes(data)


@asynccontextmanager
async def uploaded(
    request: "Request", most: int, suffix: str = ""
) -> AsyncIterator[Path]:
    """The body of a request as a file, which is deleted afterwards.

    Args:
        most: bytes.
        suffix: of the file's name, chosen by us.

    Raises: Refused for a larger or an empty body, and if the disk is full.
    """
    too_much = Refused(413, f"a file may have {most >> 20} MiB at most: send less.")
    if int(request.headers.get("content-length") or 0) > most:
        raise too_much
    handle, name = tempfile.mkstemp(suffix, "moshi-mlx-")
    path = Path(name)
    try:
        size = looked = 0
        check_disk()
        with os.fdopen(handle, "wb") as file:
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise too_much
                if size - looked > LOOK:
                    looked = size
                    check_disk()
                file.write(part)
        if not size:
            raise Refused(400, "the body is empty: send a sound file.")
        yield path
    finally:
        with suppress(OSError):
            path.unlink()


def check_disk() -> None:
    """Refuse if many files at once would fill the disk of everything else."""
    if shutil.disk_usage(tempfile.gettempdir()).free < SPARE_DISK:
        raise Refused(507, "the server's disk is nearly full: try later.")
