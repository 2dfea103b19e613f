"""Why a conversation ends, and the WebSocket that it uses."""

from typing import Any, Protocol


class Ending(Exception):
    """Why a conversation ends.

    Attributes:
        how: its label in the metrics.
        code: of the WebSocket's close.
        words: for the client, as an error message; may be empty.
    """

    def __init__(self, how: str, code: int, words: str = ""):
        super().__init__(words or how)
        self.how, self.code, self.words = how, code, words


class Socket(Protocol):
    """The parts of ``starlette.websockets.WebSocket`` that are used."""

    @property
    def scope(self) -> Any: ...

    async def receive(self) -> Any: ...
    async def send_bytes(self, data: bytes) -> None: ...
