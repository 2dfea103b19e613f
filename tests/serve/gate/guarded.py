"""Ask a guard for something, without a server around."""

import asyncio
from typing import Any

from moshi_mlx.serve.gate.guard import Guard
from moshi_mlx.serve.gate.refusal import Manners
from moshi_mlx.serve.gate.security import Policy

TOKEN = "correct horse"


class Answer:
    """What a guard sends, and whether it asked the application behind it."""

    def __init__(self) -> None:
        self.passed = False
        self.sent: list[Any] = []

    @property
    def status(self) -> int:
        return self.sent[0]["status"]

    @property
    def headers(self) -> dict[str, str]:
        return {k.decode(): v.decode() for k, v in self.sent[0]["headers"]}


def asked(
    policy: Policy,
    query: str = "",
    path: str = "/",
    kind: str = "http",
    scheme: str = "http",
    extensions: tuple[str, ...] = ("websocket.http.response",),
    client: tuple[str, int] | None = ("127.0.0.1", 5),
    manners: tuple[Manners, ...] = (),
    method: str = "GET",
    **headers: str,
) -> Answer:
    """Ask for something; the application behind says 200 with a header of its own."""
    answer = Answer()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        del scope, receive
        answer.passed = True
        own = [(b"cache-control", b"max-age=60")]
        await send({"type": f"{kind}.response.start", "status": 200, "headers": own})

    async def receive() -> Any:
        return {"type": f"{kind}.connect"}

    async def send(message: Any) -> None:
        answer.sent.append(message)

    given = {"host": "localhost:8998", **headers}
    scope = {
        "type": kind,
        "path": path,
        "query_string": query.encode(),
        "headers": [
            (k.replace("_", "-").encode(), v.encode()) for k, v in given.items()
        ],
        "scheme": scheme,
        "client": client,
        "method": method,
        "extensions": {key: {} for key in extensions},
    }
    asyncio.run(Guard(app, policy, manners=manners)(scope, receive, send))
    return answer
