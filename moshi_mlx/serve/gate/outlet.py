"""The transport that the server behind the gate uses as its socket."""

import asyncio
import logging
from typing import Any, Protocol

_log = logging.getLogger(__name__)


class Gated(Protocol):
    """The connection of an outlet: see ``connection.Connection``."""

    @property
    def key(self) -> tuple[str, int]: ...
    def hold(self, paused: bool, /) -> None: ...
    def answered(self) -> None: ...
    def replace_inner(self, inner: Any, /) -> None: ...


class Outlet(asyncio.Transport):
    """A transport for the server behind: limited, and closed within seconds."""

    def __init__(self, gated: Gated, transport: asyncio.Transport, most: int):
        super().__init__()
        self._gated, self._transport, self._most = gated, transport, most
        self._reading = True
        self.answered = False
        self._sent = 0  # bytes handed over
        self._drained, self._drained_at = 0, 0.0
        self.closing_at: float | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            return None  # its peer may be a proxy
        if name == "peername":
            return self._gated.key
        found = self._transport.get_extra_info(name, default)
        return found[:2] if name == "sockname" and isinstance(found, tuple) else found

    def set_protocol(self, protocol: Any) -> None:
        self._gated.replace_inner(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._transport.get_protocol()

    def is_closing(self) -> bool:
        return self.closing_at is not None or self._transport.is_closing()

    def close(self) -> None:
        if self.closing_at is None:
            self.closing_at = asyncio.get_running_loop().time()
            self.read(True)  # only reading shows the end of the stream
            self._transport.close()

    def abort(self) -> None:
        self.closing_at = self.closing_at or asyncio.get_running_loop().time()
        self._transport.abort()

    def write(self, data: Any) -> None:
        if self._transport.is_closing():
            return
        self._sent += len(data)
        self._transport.write(data)
        if not self.answered and not bytes(data[:12]).endswith(b" 100"):
            self.answered = True  # more than a request for the body
            self._gated.answered()
        if self._transport.get_write_buffer_size() > self._most:
            _log.info("client=%s reads nothing and was let go", self._gated.key[0])
            self.abort()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def stuck_s(self, now: float) -> float:
        """Seconds for which the client has read nothing of what waits for it."""
        waiting = self._transport.get_write_buffer_size()
        drained = self._sent - waiting
        if drained != self._drained or not waiting:
            self._drained, self._drained_at = drained, now
        return now - self._drained_at

    def lingers(self, now: float, limit_s: float) -> bool:
        """Whether the client should have taken the last bytes by now."""
        stuck_s = self.stuck_s(now)
        if self.closing_at is None or now - self.closing_at < limit_s:
            return False
        return not self._transport.get_write_buffer_size() or stuck_s > limit_s

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def read(self, wanted: bool) -> None:
        """Let bytes come from the socket, or not."""
        if wanted != self._reading and not self._transport.is_closing():
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def pause_reading(self) -> None:
        self._gated.hold(True)

    def resume_reading(self) -> None:
        self._gated.hold(False)

    def is_reading(self) -> bool:
        return self._reading

    def can_write_eof(self) -> bool:
        return False
