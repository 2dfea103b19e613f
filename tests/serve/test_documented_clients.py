"""The clients that the documentation shows, as they stand there."""

import ast
import asyncio
import contextlib
import inspect
import json
import plistlib
import re
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from moshi_mlx.audio.encode import encoded
from moshi_mlx.audio.files import read
from moshi_mlx.serve.protocols.wyoming.server import WyomingPort
from tests.listening import noise
from tests.serve.client import PATIENCE_S
from tests.serve.small import small
from tests.serve.wyoming.test_models import free_port
from tests.test_docs import options

DOCS = Path(__file__).parents[2] / "docs"
SHOWN = {  # what each prints, in part
    "openai": "",
    "realtime": "session.created",
    "moshi-server": "'Ready'",
    "gradium": "",
    "home-assistant": "'asr'",
}
CURLS = re.findall(r"\| `(curl .*?)` \|", (DOCS / "programs.md").read_text("utf-8"))


class Enough(Exception):
    """A client that would go on has printed something."""


def client_of(page: str) -> str:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    [code] = re.findall(r"client in five lines.*?```text\n(.*?)```", text, re.DOTALL)
    return code


@pytest.mark.filterwarnings("default:connect:DeprecationWarning")  # within openai
@pytest.mark.parametrize("page", SHOWN)
def test_a_client_of_five_lines_runs(serve, page, tmp_path, monkeypatch):
    code = client_of(page)
    assert len(code.splitlines()) <= 5
    speech, wyoming = small(), free_port()
    server = serve(speech=speech, beside=lambda: WyomingPort(port=wyoming).open(speech))
    code = code.replace("8998", str(server.port)).replace("10300", str(wyoming))
    monkeypatch.chdir(tmp_path)
    printed: list[str] = []

    def show(*values: object) -> None:
        printed.append(" ".join(map(str, values)))
        raise Enough

    def client() -> None:
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        with contextlib.suppress(Enough):
            made = eval(compile(code, page, "exec", flags), {"print": show})
            if inspect.iscoroutine(made):
                asyncio.run(made)

    # The server's end ends a client that hangs.
    ThreadPoolExecutor(1).submit(client).result(PATIENCE_S)
    assert printed and SHOWN[page] in printed[0]


@pytest.mark.skipif(not shutil.which("curl"), reason="not on this machine: curl")
@pytest.mark.parametrize("command", CURLS)
def test_the_curls_of_the_table_are_answered(serve, command, tmp_path):
    server = serve(speech=small())
    (tmp_path / "talk.mp3").write_bytes(encoded(noise(1.6), "mp3"))
    words = shlex.split(command.replace("8998", str(server.port)))
    done = subprocess.run(
        [*words, "--fail", "--silent"], cwd=tmp_path, capture_output=True, timeout=60
    )
    assert done.returncode == 0
    written = tmp_path / "hello.mp3"
    if written.exists():
        assert len(read(written)[0]) > 24000
    else:
        assert json.loads(done.stdout)["text"]


def test_open_webui_and_sillytavern_get_what_they_ask_for(serve):
    """Their requests, as their sources make them."""
    server = serve(speech=small())
    base = f"http://127.0.0.1:{server.port}/v1/audio"
    for what in ("voices", "models"):  # Open WebUI gives no key here
        with urlopen(f"{base}/{what}") as got:
            listed = json.load(got)[what]
        assert listed and all("id" in entry for entry in listed)
        assert what == "models" or all("name" in entry for entry in listed)
    open_webui = {"model": "tts-1", "input": "hello there", "voice": "alloy"}
    sillytavern = {**open_webui, "response_format": "mp3", "speed": 1}
    for wanted in (open_webui, sillytavern):
        headers = {"Content-Type": "application/json", "Authorization": "Bearer any"}
        data = json.dumps(wanted).encode()
        with urlopen(Request(f"{base}/speech", data, headers)) as got:
            assert got.headers["Content-Type"] == "audio/mpeg"
            assert len(got.read()) > 1000


def test_the_launchd_job_runs_a_command_that_exists():
    text = (DOCS / "programs.md").read_text(encoding="utf-8")
    [job] = re.findall(r"```xml\n(.*?)```", text, re.DOTALL)
    command, *words = plistlib.loads(job.encode())["ProgramArguments"]
    assert Path(command).is_absolute() and words[0] == "serve"
    asked = {word for word in words if word.startswith("--")}
    assert {"--preload", "--no-browser"} <= asked <= options("serve")
