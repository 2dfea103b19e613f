"""What an uploaded form may hold, without a server."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from moshi_mlx.serve.gate.refusal import Refused
from moshi_mlx.serve.protocols.openai import forms

EDGE = "multipart/form-data; boundary=edge"


def part(name: str, data: str, file: bool = False) -> str:
    end = '; filename="a.wav"' if file else ""
    head = f'--edge\r\nContent-Disposition: form-data; name="{name}"{end}'
    return f"{head}\r\n\r\n{data}\r\n"


def posted(
    body: str, kind: str = EDGE, length: int | None = None, pieces: int = 1
) -> tuple[bytes, dict[str, Any], Path]:
    """The file of a form, its fields, and where the file was."""
    data = (body + "--edge--\r\n").encode()
    size = -(-len(data) // pieces)
    waiting = [data[at : at + size] for at in range(0, len(data), size)]
    headers = [(b"content-type", kind.encode())]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))

    async def receive() -> dict[str, Any]:
        piece = waiting.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(waiting)}

    async def main() -> tuple[bytes, dict[str, Any], Path]:
        request = Request({"type": "http", "headers": headers, "app": None}, receive)
        async with forms.posted(request, "file") as (path, got):
            found = path.read_bytes(), dict(got), path
        assert not path.exists()
        return found

    return asyncio.run(main())


def test_a_forms_file_is_on_disk_while_it_is_used():
    body = part("model", "m") + part("file", "RIFFabc", file=True)
    data, got, path = posted(body, EDGE.replace("multipart", "Multipart"), pieces=3)
    assert (data, got["model"]) == (b"RIFFabc", "m")
    assert path.parent.name.startswith("moshi-mlx-")


@pytest.mark.parametrize(
    "body, kind, words",
    [
        (part("file", "x", file=True), "application/json", "multipart/form-data"),
        (part("file", "x"), EDGE, "has no file: send one in file"),
        (part("other", "x", file=True), EDGE, "has no file"),
        (part("file", "", file=True), EDGE, "the file is empty"),
        (part("file", "x", file=True) * 2, EDGE, "the form cannot be read"),
        ("".join(part(f"n{n}", "x") for n in range(65)), EDGE, "cannot be read"),
        (part("prompt", "x" * 65_537), EDGE, "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_form_is_told(body, kind, words):
    with pytest.raises(Refused, match=words) as refused:
        posted(body, kind)
    assert refused.value.status == 400


def test_a_form_holds_as_much_as_is_said(monkeypatch):
    assert forms.MOST_UPLOAD == 256 * 2**20
    body = part("prompt", "x" * 65_536) + part("file", "y", file=True)
    body += "".join(part(f"n{n}", "x") for n in range(63))
    assert posted(body)[0] == b"y"
    size = len(body) + len("--edge--\r\n")
    for length, most, pieces in ((size, size, 2), (None, size, 2)):
        monkeypatch.setattr(forms, "MOST_UPLOAD", most)
        posted(body, length=length, pieces=pieces)
        monkeypatch.setattr(forms, "MOST_UPLOAD", most - 1)
        with pytest.raises(Refused, match="0 MiB at most") as refused:
            posted(body, length=length, pieces=pieces)
        assert (refused.value.status, refused.value.code) == (413, "file_too_large")


def test_the_disk_is_looked_at_before_a_form_and_while_it_comes(monkeypatch):
    looks: list[None] = []
    monkeypatch.setattr(forms, "check_disk", lambda: looks.append(None))
    monkeypatch.setattr(forms, "LOOK", 1000)
    posted(part("file", "y" * 5000, file=True), pieces=10)
    assert len(looks) == 1 + 5  # pieces of 500 bytes or more: every second one
