"""What the server writes is its owner's, and what it shows names no path of its own."""

import asyncio
import os

import pytest

from moshi_mlx.serve.app import check_static
from moshi_mlx.serve.gate.security import OTHER_PAGE_POLICY, Policy
from tests.serve.attacks import (
    opened,
)
from tests.serve.client import joined
from tests.serve.gate.patience import answer


def talk(server, question) -> int:
    async def run() -> int:
        async with joined(server.chat("format=pcm&queue=1")) as client:
            return len(await client.converse(question[:3]))

    return asyncio.run(run())


@pytest.mark.skipif(os.name == "nt", reason="not on Windows, which has no such modes")
def test_recordings_are_for_their_owner_alone(serve, tmp_path, question):
    folder = tmp_path / "new" / "talks"
    server = serve(record=folder)
    assert talk(server, question) == 3
    server.stop()
    files = list(folder.iterdir())
    assert {file.suffix for file in files} == {".wav", ".json", ".txt", ".srt"}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_full_disk_ends_recordings_but_no_conversation(
    serve, tmp_path, question, monkeypatch, caplog
):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    (tmp_path / "talks").mkdir()
    server = serve(record=tmp_path / "talks")
    assert talk(server, question) == 3
    assert "is not recorded: the disk of" in caplog.text
    assert list((tmp_path / "talks").iterdir()) == []


def test_no_error_names_a_path_of_the_server(serve, tmp_path, question, monkeypatch):
    from moshi_mlx.errors import AudioError
    from moshi_mlx.serve.protocols.moshi.talk import NetworkTalk

    def broken(*_: object) -> None:
        raise AudioError(f"{tmp_path}/secret cannot be written")

    server = serve()

    async def run():
        async with joined(server.chat()) as client:
            monkeypatch.setattr(NetworkTalk, "_take", broken)
            await client.say(question[0])
            return await client.until_closed(), client.errors

    code, errors = asyncio.run(run())
    assert (
        code == 1011 and str(tmp_path) not in errors[0] and "see its log" in errors[0]
    )


@pytest.mark.parametrize("path", ["/.env", "/.git/config", "/a/.hidden", "/%2eenv"])
def test_hidden_files_are_no_part_of_a_page(serve, tmp_path, path):
    for name in ("index.html", ".env", ".git/config", "a/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("secret")
    policy = Policy(content_policy=OTHER_PAGE_POLICY)
    server = serve(static=check_static(tmp_path), policy=policy)
    got = answer(opened(server.port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    assert got.startswith(b"HTTP/1.1 404 ") and b"secret" not in got
