"""Who is connected to the Wyoming port, and who has to make room."""

import asyncio
from dataclasses import dataclass, field

from ...gate.addresses import Accounts
from ...gate.limits import Account, Inflow, Limits
from .client import WyomingClient
from .wire import Bounds


@dataclass(eq=False)
class Visit:
    """A connected client.

    Attributes:
        task: serves it.
        account: of its address.
        inflow: what it may send.
        client: the client, once it is served.
    """

    task: "asyncio.Task[None]"
    account: Account
    inflow: Inflow
    client: WyomingClient | None = field(default=None)

    @property
    def rests_since(self) -> float | None:
        return None if self.client is None else self.client.rests_since


class Visits:
    """The clients of a port, limited in total and for each address.

    A client that sends too fast is read more slowly, by the limits of the web server.
    """

    def __init__(self, bounds: Bounds):
        self._bounds = bounds
        self._limits = Limits()
        self._accounts = Accounts(self._limits)
        self._here: set[Visit] = set()

    def __len__(self) -> int:
        return len(self._here)

    def begin(self, task: "asyncio.Task[None]", address: str) -> Visit | None:
        """Let a client in; None if there is no room.

        The client that has asked for nothing for the longest time makes room.
        """
        account = self._accounts.account(address)
        if account.connections >= self._bounds.per_address:
            self._make_room(account)
        if len(self) >= self._bounds.clients:
            self._make_room(None)
        here = account.connections, len(self)
        if here[0] >= self._bounds.per_address or here[1] >= self._bounds.clients:
            return None
        visit = Visit(task, account, Inflow(self._limits, account=account))
        self._here.add(visit)
        account.connections += 1
        return visit

    def end(self, visit: Visit) -> None:
        if visit in self._here:
            self._here.remove(visit)
            visit.account.connections -= 1

    def end_all(self) -> "list[asyncio.Task[None]]":
        """Disconnect everybody; returns the tasks that end."""
        tasks = [visit.task for visit in self._here]
        for task in tasks:
            task.cancel()
        return tasks

    def _make_room(self, account: Account | None) -> None:
        resting = [
            visit
            for visit in self._here
            if account in (None, visit.account) and visit.rests_since is not None
        ]
        if resting:
            longest = min(resting, key=lambda visit: visit.rests_since or 0.0)
            longest.task.cancel()
            self.end(longest)
