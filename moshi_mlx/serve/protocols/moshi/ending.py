"""How a conversation ends, and what it is held over."""

from typing import Any, Protocol


class Ending(Exception):
    """Why a conversation ends.

    Attributes:
        how: what the metrics count it as.
        code: of the WebSocket's close.
        words: for the client, as an error message; empty says nothing.
    """

    def __init__(self, how: str, code: int, words: str = ""):
        super().__init__(words or how)
        self.how, self.code, self.words = how, code, words


class Socket(Protocol):
    """What is used of ``starlette.websockets.WebSocket``."""

    @property
    def scope(self) -> Any: ...

    async def receive(self) -> Any: ...
    async def send_bytes(self, data: bytes) -> None: ...
