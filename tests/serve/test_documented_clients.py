"""The clients of five lines that the documentation shows, as they stand there."""

import ast
import asyncio
import builtins
import contextlib
import inspect
import re
from pathlib import Path

import pytest

from moshi_mlx.serve.protocols.wyoming.server import WyomingPort
from tests.serve.small import small
from tests.serve.wyoming.test_models import free_port

DOCS = Path(__file__).parents[2] / "docs"
SHOWN = {  # what each prints, in part
    "openai": "",
    "realtime": "session.created",
    "moshi-server": "'Ready'",
    "gradium": "",
    "home-assistant": "'asr'",
}


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
    server = serve(
        speech=speech, beside=lambda: WyomingPort(port=wyoming).open(speech)
    )
    code = code.replace("8998", str(server.port)).replace("10300", str(wyoming))
    monkeypatch.chdir(tmp_path)
    printed: list[str] = []

    def show(*values: object) -> None:
        printed.append(" ".join(map(str, values)))
        raise Enough

    monkeypatch.setattr(builtins, "print", show)
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    with contextlib.suppress(Enough):
        made = eval(compile(code, page, "exec", flags), {})
        if inspect.iscoroutine(made):
            asyncio.run(made)
    assert printed and SHOWN[page] in printed[0]
