"""Posted forms with a file: limited in size, and on disk while they are used."""

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...gate.refusal import Refused
from ...uploads import LOOK, check_disk

if TYPE_CHECKING:
    from fastapi import Request
    from starlette.datastructures import FormData

MOST_UPLOAD = 256 << 20  # bytes
_COPY = 1 << 20
_MOST_FIELD = 64 << 10  # bytes of a field that is no file


@asynccontextmanager
async def posted(
    request: "Request", field: str
) -> AsyncIterator[tuple[Path, "FormData"]]:
    """The file of a form, which is deleted afterwards, and the form's other fields.

    Args:
        field: the field with the file.

    Raises: Refused for an invalid or too long form, or one without such a file.
    """
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request

    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        words = f"send the file as multipart/form-data, in the field {field}."
        raise Refused(400, words, field)
    check_disk()
    limited = _limited(request.receive, request.headers, field)
    try:
        form = await Request(request.scope, limited).form(
            max_files=1, max_fields=64, max_part_size=_MOST_FIELD
        )
    except HTTPException as error:
        raise Refused(400, f"the form cannot be read: {error.detail}") from error
    except ClientDisconnect as error:
        raise Refused(400, "the upload ended early.") from error
    with tempfile.TemporaryDirectory(prefix="moshi-mlx-") as folder:
        path = Path(folder) / "sound"
        try:
            await _keep(form, field, path)
        finally:
            await form.close()  # here: a client that hangs up later would cancel it
        yield path, form


async def _keep(form: "FormData", field: str, path: Path) -> None:
    sent = form.get(field)
    if sent is None or isinstance(sent, str):
        raise Refused(400, f"the form has no file: send one in {field}.", field)
    with path.open("wb") as file:
        while block := await sent.read(_COPY):
            file.write(block)
    if not path.stat().st_size:
        raise Refused(400, "the file is empty.", field)


def _limited(receive: Callable[[], Any], headers: Any, field: str) -> Callable[[], Any]:
    """The same, ended by a refusal if it is too long."""
    length = headers.get("content-length", "0")

    def check(size: int) -> None:
        if size > MOST_UPLOAD:
            words = f"a file may have {MOST_UPLOAD >> 20} MiB at most."
            raise Refused(413, words, field, "file_too_large")

    check(int(length) if length.isdigit() else 0)
    got = looked = 0

    async def receiving() -> Any:
        nonlocal got, looked
        message = await receive()
        got += len(message.get("body", b""))
        check(got)
        if got - looked > LOOK:
            looked = got
            check_disk()
        return message

    return receiving
