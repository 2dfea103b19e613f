"""The guard tells a connection that is flooded or on its way out."""

import asyncio
from typing import Any

from moshi_mlx.errors import ProtocolError
from moshi_mlx.serve.gate.guard import Guard
from moshi_mlx.serve.gate.security import (
    Policy,
)


class Door:
    """A gate with one connection, that may be flooded or on its way out."""

    def __init__(self) -> None:
        self.flood = asyncio.get_running_loop().create_future()
        self.leaving = False

    def of(self, client: Any) -> "Door | None":
        return self if client == ("1.2.3.4", 5) else None


async def received(door: Door, client: Any, happens: Any) -> Any:
    """What the application behind receives, or the error that tells it to stop."""
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            got.append(scope.get("gate"))
            got.append(await asyncio.wait_for(receive(), 5))
            await send({"type": "websocket.send"})
        except Exception as error:
            got.append(error)

    async def receive() -> Any:
        await asyncio.sleep(0)
        happens()
        await asyncio.sleep(0.01)
        return "a message"

    async def send(_message: Any) -> None: ...

    scope = {
        "type": "websocket",
        "path": "/",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": client,
    }
    await Guard(app, Policy(), door)(scope, receive, send)  # type: ignore[arg-type]
    return got


def test_a_flood_is_told_to_whoever_receives_and_the_rest_passes():
    async def run() -> None:
        door = Door()
        assert await received(door, ("1.2.3.4", 5), lambda: None) == [door, "a message"]
        assert await received(door, ("9.9.9.9", 5), lambda: None) == [None, "a message"]
        error = ProtocolError("too much")
        flooded = lambda: door.flood.set_exception(error)  # noqa: E731
        assert await received(door, ("1.2.3.4", 5), flooded) == [door, error]
        gone = Door()
        assert (await received(gone, ("1.2.3.4", 5), gone.flood.cancel))[
            1
        ] == "a message"
        leaving = Door()
        leaving.leaving = True
        got = await received(leaving, ("1.2.3.4", 5), lambda: None)
        assert isinstance(got[2], OSError)

    asyncio.run(run())
