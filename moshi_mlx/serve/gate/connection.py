"""One connection, between the socket and the server that answers it.

Bytes pass here in small portions: first the head of a request, as a whole; then its
body, or WebSocket frames, which are counted and charged. The server behind the gate
(uvicorn's HTTP and WebSocket protocols) sees nothing of a connection before its head
has been checked. A single read cannot keep it busy for long, and it holds back only a
bounded number of bytes for a client that does not read.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any, Protocol

from ...errors import ProtocolError
from .addresses import Accounts
from .chunks import ChunkCounter
from .frames import MAX_FRAGMENTS, FrameCounter
from .head import BadRequest, Head, read_head
from .limits import Account, Inflow, Limits
from .outlet import Outlet

_log = logging.getLogger(__name__)
_PORTION = 32_768  # bytes handed over at a time
_FRAMES = 64  # and frames or chunks: the libraries take a millisecond or two for them
_BODY_RATE = 1000.0  # least bytes per second of a body, on average
_REASONS = {400: "Bad Request", 408: "Request Timeout", 503: "Service Unavailable"}
_LAST_CHUNK = b"0\r\n\r\n"
Inner = Callable[[], asyncio.Protocol]


class Keeper(Protocol):
    """The parts of ``gate.Gate`` that a connection uses."""

    limits: Limits
    tls: ssl.SSLContext | None
    accounts: Accounts

    def admit(self, new: "Connection", /) -> bool: ...
    def welcome(self, connection: "Connection", address: str, /) -> bool: ...
    def forget(self, connection: "Connection", /) -> None: ...
    def keep(self, work: "asyncio.Task[None]", /) -> None: ...


class Connection(asyncio.Protocol):
    """The protocol object that asyncio calls for a socket.

    Attributes:
        address: the client's address; behind a trusted proxy, the one that the proxy
            names.
        account, inflow: what its address, and the connection alone, may still send.
        patient: one that sends too much is slowed down; set by the server behind.
        flood: the error for sending too much; the server behind may report it first.
        gone: set when the connection is lost, even if some of its data is unread.
    """

    def __init__(self, gate: Keeper, make_inner: Inner):
        self._gate, self._make_inner = gate, make_inner
        self._loop = asyncio.get_running_loop()
        self._inner: asyncio.Protocol | None = None
        self._out: Outlet | None = None
        self._raw: asyncio.Transport | None = None
        self._pending = bytearray()
        self._head: Head | None = None
        self._body = 0  # bytes of it so far
        self._tail = b""  # the last of them
        self._counter, self._chunks = FrameCounter(), ChunkCounter()
        self._inner_paused = self._scheduled = self._lost = False
        self.account: Account | None = None
        self.inflow: Inflow | None = None
        self.address, self.port = "", 0
        self.began_at = self.heard_at = self._loop.time()
        self.flood: asyncio.Future[None] = self._loop.create_future()
        self.gone = asyncio.Event()
        self.patient = False
        self._rests_until = 0.0

    @property
    def key(self) -> tuple[str, int]:
        """The client's name for the server behind."""
        return self.address, self.port

    @property
    def idle(self) -> bool:
        """Whether it has sent no complete request yet, or has been answered."""
        return self._head is None or self.leaving or self._body_is_missing

    @property
    def leaving(self) -> bool:
        return self._out is not None and self._out.closing_at is not None

    @property
    def unread(self) -> int | None:
        """The socket's file number while nothing is read from it; None otherwise."""
        if self._out is None or self._out.is_reading() or self.leaving or self._lost:
            return None
        assert self._raw is not None
        number = self._raw.get_extra_info("socket").fileno()
        return number if number >= 0 else None

    @property
    def _body_is_missing(self) -> bool:
        head = self._head
        if head is None or head.upgrade or self._is_answered:
            return False
        if head.length is None:
            return self._tail != _LAST_CHUNK
        return self._body < head.length

    # Called by asyncio

    def connection_made(self, transport: Any) -> None:
        self._raw = transport
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.address, self.port = str(peer[0]), int(peer[1])
        if not self._gate.admit(self):
            self.refuse(503, "too many connections are open: try again later.")
        elif self._gate.tls is None:
            self._open(transport)
        else:
            self._gate.keep(self._loop.create_task(self._start_tls(transport)))

    async def _start_tls(self, raw: asyncio.Transport) -> None:
        assert self._gate.tls is not None
        try:
            transport = await self._loop.start_tls(
                raw,
                self,
                self._gate.tls,
                server_side=True,
                ssl_handshake_timeout=self._gate.limits.opening_s,
            )
        except (OSError, asyncio.TimeoutError):  # no TLS, too late, or gone
            raw.abort()
            self.connection_lost(None)
        else:
            if transport is None or self._lost:
                raw.abort()
            else:
                self._open(transport)

    def _open(self, transport: asyncio.Transport) -> None:
        self._out = Outlet(self, transport, self._gate.limits.unsent_bytes)
        self._work()  # TLS may have brought bytes already

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._pending.clear()
        self._gate.forget(self)
        self.flood.cancel()
        self.gone.set()
        inner, self._inner = self._inner, None  # no cycle keeps its buffers
        if inner is not None:
            self._guarded(inner.connection_lost, exc)

    def eof_received(self) -> bool | None:
        if self._inner is not None:
            self._guarded(self._inner.eof_received)
        return None  # the transport closes itself

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self.leaving or self._lost:
            return  # nobody reads it
        self.heard_at = self._loop.time()
        self._pending += data
        self._work()

    # Portion by portion

    def _work(self) -> None:
        """Hand one portion over; the rest after the event loop has served others."""
        self._scheduled = False
        if self._lost or self._out is None or self.leaving:
            return
        try:
            if self._head is None:
                self._take_head()
            elif not self._stuck:
                self._hand_over(self._portion())
        except BadRequest as error:
            self.refuse(error.status, error.words)
        except ProtocolError as error:
            self._overflow(error)
        self._pace()

    def _pace(self) -> None:
        """Read on only if nothing waits; continue soon if something can."""
        if self._lost or self._out is None or self.leaving:
            return
        waiting = bool(self._pending) and self._head is not None
        self._out.read(not self._stuck and not waiting)
        if waiting and not self._stuck and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._work)

    @property
    def _stuck(self) -> bool:
        """Whether the server behind takes nothing now: frames come after its answer."""
        early = self._upgrades and self._out is not None and not self._out.answered
        resting = self._rests_until > self._loop.time()
        return self._inner_paused or self.flood.done() or early or resting

    @property
    def _is_answered(self) -> bool:
        answered = self._out is not None and self._out.answered
        return answered and not self._upgrades

    @property
    def _upgrades(self) -> bool:
        return self._head is not None and self._head.upgrade

    def _take_head(self) -> None:
        head = read_head(self._pending)
        if head is None:
            return
        self._head = head
        address = self._gate.accounts.behind(self.address, head.forwarded)
        if not self._gate.welcome(self, address):
            raise BadRequest("too many connections from this address.", 503)
        self._inner = self._make_inner()
        self._guarded(self._inner.connection_made, self._out)
        self._hand_over(head.size)

    def _portion(self) -> int:
        """Number of bytes in the next portion, with its frames charged."""
        assert self._head is not None and self.inflow is not None
        size = min(len(self._pending), _PORTION)
        if not self._upgrades:
            if self._head.length is None:
                size, excess = self._chunks.cut(self._pending[:size], _FRAMES)
                self._owe(self.inflow.owed_s(4 * excess) if excess else 0.0)
            self._body += size
            self._tail = (self._tail + self._pending[:size])[-len(_LAST_CHUNK) :]
            return size
        size, frames = self._counter.cut(self._pending[:size], _FRAMES)
        for length in frames:
            cost = min(length, self._gate.limits.message_bytes)
            if self.patient:
                self._owe(self.inflow.owed_s(cost))
            else:
                self.inflow.message(cost)
        if self._counter.fragments > MAX_FRAGMENTS:
            words = f"a message comes in more than {MAX_FRAGMENTS} parts"
            raise ProtocolError(f"{words}: send whole ones.")
        return size

    def _owe(self, seconds: float) -> None:
        """Take nothing more for a while, to slow down a client that sends too much."""
        if seconds > 0:
            self._rests_until = max(self._rests_until, self._loop.time()) + seconds
            self._loop.call_at(self._rests_until + 0.001, self._pace)

    def _hand_over(self, size: int) -> None:
        data = bytes(self._pending[:size])
        del self._pending[:size]
        if self._is_answered:
            return  # one request per connection: anything after it is ignored
        if self._inner is not None and data:
            self._guarded(self._inner.data_received, data)

    def _guarded(self, call: Callable[..., Any], *arguments: Any) -> None:
        """A failure of the server behind ends only this connection."""
        try:
            call(*arguments)
        except Exception:
            _log.exception("a connection failed")
            self.abort()

    def _overflow(self, error: ProtocolError) -> None:
        """Stop listening; the application is told that the connection is gone."""
        if not self.flood.done():
            self.flood.set_exception(error.with_traceback(None))
            self.flood.exception()  # mark it as read: maybe nobody asks
            self._loop.call_later(self._gate.limits.linger_s, self.abort)

    # Called by the server behind, or by the gate

    def replace_inner(self, inner: asyncio.Protocol) -> None:
        self._inner = inner

    def hold(self, paused: bool) -> None:
        """The server behind wants to pause reading, or to resume it."""
        self._inner_paused = paused
        self._pace()

    def answered(self) -> None:
        """The server behind has begun to answer."""
        self._pace()

    def refuse(self, status: int, words: str) -> None:
        """Answer in plain HTTP and close."""
        body = f"{words[:1].upper()}{words[1:]}\n".encode()
        answer = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Length: {len(body)}\r\n"
            "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
        )
        if self._out is not None and not self.leaving:
            self._out.write(answer.encode() + body)
            self._out.close()
        elif self._raw is not None and self._gate.tls is None:
            self._raw.write(answer.encode() + body)
            self._raw.close()
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once; unsent bytes are lost."""
        if self._out is not None:
            self._out.abort()
        elif self._raw is not None:
            self._raw.abort()

    def overdue(self, now: float) -> bool:
        """Whether it has stalled; called again and again."""
        limits = self._gate.limits
        if self._out is None:
            return now - self.began_at > limits.opening_s + 1
        if self.leaving:
            return self._out.lingers(now, limits.linger_s)
        if self._out.stuck_s(now) > (limits.read_s if self.patient else limits.send_s):
            return True
        if self._head is None:
            return now - self.began_at > limits.opening_s
        return self._body_overdue(now)

    def _body_overdue(self, now: float) -> bool:
        if self._inner_paused or not self._body_is_missing:
            return False
        allowed = self._gate.limits.stall_s + self._body / _BODY_RATE
        stalled = now - self.heard_at > self._gate.limits.stall_s
        return stalled or now - self.began_at > allowed

    def give_up(self) -> None:
        """End a stalled connection, with an answer if its request is incomplete."""
        if self._head is None and self._out is not None and not self.leaving:
            self.refuse(408, "the request did not come in time.")
        else:
            self.abort()
