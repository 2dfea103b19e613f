"""The gate in front of the server: how many connections there are, and whose.

Limits are enforced here and not in a protocol: whatever a connection carries, its bytes
have been counted before.
"""

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any

from .addresses import Accounts, Network
from .connection import Connection, Inner
from .hangups import hung_up
from .limits import Account, Inflow, Limits

_LOOK_S = 0.1  # between checks for connections that have stalled or are gone


class Gate:
    """All connections of a server.

    Args:
        limits: how many there may be, and how long they may take for each step.
        tls: to use TLS; the handshake counts as part of a request's head.
        proxies: see ``Accounts``.
    """

    def __init__(
        self,
        limits: Limits,
        tls: ssl.SSLContext | None = None,
        proxies: Iterable[Network] = (),
    ):
        self.limits, self.tls = limits, tls
        self.accounts = Accounts(limits, proxies)
        self._open: dict[Connection, None] = {}  # oldest first
        self._by_client: dict[tuple[str, int], Connection] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def connection(self, make_inner: Inner) -> Connection:
        """A protocol for asyncio; ``make_inner`` makes the server behind it."""
        return Connection(self, make_inner)

    def of(self, client: tuple[str, int] | None) -> Connection | None:
        """The connection of an ASGI scope's client."""
        return None if client is None else self._by_client.get((client[0], client[1]))

    @property
    def count(self) -> int:
        return len(self._open)

    async def watch(self) -> None:
        """End connections that have stalled, and those whose clients have hung up
        behind something that is not read yet; forever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_S)
            now = loop.time()
            for connection in list(self._open):
                if connection.overdue(now):
                    connection.give_up()
            unread = {c.unread: c for c in self._open if c.unread is not None}
            for number in hung_up(unread):
                unread[number].abort()

    def keep(self, work: "asyncio.Task[None]") -> None:
        """Keep a reference to a task until it is done."""
        self._tasks.add(work)
        work.add_done_callback(self._tasks.discard)

    def admit(self, new: Connection) -> bool:
        """Let a new connection in.

        If there is no room, a connection without a complete request is closed."""
        if self.count >= self.limits.connections and not self._make_room(None):
            return False
        account = self.accounts.account(new.address)
        if not self.accounts.is_proxy(new.address) and self._is_full(account):
            return False
        self._open[new] = None
        self._enter(new, new.address)
        return True

    def welcome(self, connection: Connection, address: str) -> bool:
        """Move a connection to the address that its proxy names."""
        if address == connection.address:
            return True
        if self._is_full(self.accounts.account(address)):
            return False
        self._leave(connection)
        self._enter(connection, address)
        return True

    def _is_full(self, account: Account) -> bool:
        if account.connections < self.limits.per_address:
            return False
        return not self._make_room(account)

    def forget(self, connection: Connection) -> None:
        if connection in self._open:
            del self._open[connection]
            self._leave(connection)

    def close(self) -> None:
        """Close all connections."""
        for connection in list(self._open):
            connection.abort()
        for task in self._tasks:
            task.cancel()

    def _enter(self, connection: Connection, address: str) -> None:
        connection.address = address
        connection.account = self.accounts.account(address)
        connection.account.connections += 1
        connection.inflow = Inflow(self.limits, account=connection.account)
        self._by_client[connection.key] = connection

    def _leave(self, connection: Connection) -> None:
        if connection.account is not None:
            connection.account.connections -= 1
        self._by_client.pop(connection.key, None)

    def _make_room(self, account: Account | None) -> bool:
        """Close the oldest connection without a request, maybe of one account: stalled
        connections take no places from others."""
        for connection in self._open:
            if account in (None, connection.account) and connection.idle:
                connection.abort()
                self.forget(connection)
                return True
        return False
