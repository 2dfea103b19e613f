"""How many connections there may be, and which of them make room for others."""

import asyncio
from dataclasses import replace
from typing import Any

from moshi_mlx.serve.gate.addresses import read_proxies
from moshi_mlx.serve.gate.gate import Gate
from moshi_mlx.serve.gate.limits import Limits

LIMITS = replace(Limits(), connections=3, per_address=2)


class Fake:
    """What the gate knows of a connection."""

    def __init__(self, address: str, port: int = 0, idle: bool = False):
        self.address, self.port, self.idle = address, port, idle
        self.account: Any = None
        self.inflow: Any = None
        self.unread: int | None = None
        self.aborted = self.is_overdue = self.given_up = False

    @property
    def key(self) -> tuple[str, int]:
        return self.address, self.port

    def abort(self) -> None:
        self.aborted = True

    def overdue(self, _now: float) -> bool:
        return self.is_overdue

    def give_up(self) -> None:
        self.given_up = True


def arrived(gate: Gate, *connections: Any) -> list[bool]:
    return [gate.admit(connection) for connection in connections]


def test_there_are_so_many_connections_in_all():
    gate = Gate(LIMITS)
    first = [Fake(f"10.0.0.{n}") for n in range(3)]
    assert arrived(gate, *first) == [True] * 3 and gate.count == 3
    assert not gate.admit(Fake("10.0.0.9"))  # type: ignore[arg-type]
    first[1].idle = first[2].idle = True
    assert arrived(gate, Fake("10.0.0.9")) == [True] and gate.count == 3
    assert [c.aborted for c in first] == [False, True, False], "the oldest idle one"
    assert gate.accounts.account("10.0.0.1").connections == 0


def test_there_are_so_many_connections_of_an_address():
    gate = Gate(LIMITS)
    others, mine = Fake("10.0.0.1", idle=True), [Fake("10.0.0.2", n) for n in (1, 2)]
    assert arrived(gate, others, *mine) == [True] * 3
    gate.forget(others)  # type: ignore[arg-type]
    assert arrived(gate, Fake("10.0.0.2", 3)) == [False]
    mine[1].idle = True
    assert arrived(gate, Fake("10.0.0.2", 3)) == [True]
    assert mine[1].aborted and not others.aborted and gate.count == 2
    assert gate.accounts.account("10.0.0.2").connections == 2


def test_a_proxy_has_as_many_as_its_clients():
    gate = Gate(LIMITS, proxies=read_proxies(["10.0.0.1"]))
    behind: list[Any] = [Fake("10.0.0.1", port) for port in range(3)]
    assert arrived(gate, *behind) == [True] * 3
    assert gate.welcome(behind[0], "10.9.9.9") and gate.welcome(behind[1], "10.9.9.9")
    assert not gate.welcome(behind[2], "10.9.9.9"), "two of one address"
    assert gate.welcome(behind[2], "10.0.0.1"), "it stays the proxy's own"
    assert gate.of(("10.9.9.9", 0)) is behind[0] and gate.of(("10.0.0.1", 0)) is None
    assert gate.accounts.account("10.0.0.1").connections == 1


def test_who_leaves_is_forgotten_once():
    gate, leaving = Gate(LIMITS), Fake("10.0.0.1", 7)
    assert arrived(gate, leaving) == [True]
    assert gate.of(("10.0.0.1", 7)) is leaving and gate.of(None) is None
    for _ in range(2):
        gate.forget(leaving)  # type: ignore[arg-type]
    assert gate.count == 0 and gate.of(("10.0.0.1", 7)) is None
    assert gate.accounts.account("10.0.0.1").connections == 0


def test_a_gate_that_closes_ends_connections_and_what_it_does_for_them():
    async def main() -> None:
        gate, open_ = Gate(LIMITS), [Fake("10.0.0.1"), Fake("10.0.0.2")]
        arrived(gate, *open_)
        waiting = asyncio.ensure_future(asyncio.Event().wait())
        done = asyncio.ensure_future(asyncio.sleep(0))
        gate.keep(waiting), gate.keep(done)  # type: ignore[arg-type]
        await done
        gate.close()
        await asyncio.wait([waiting])
        assert waiting.cancelled() and [c.aborted for c in open_] == [True, True]

    asyncio.run(main())


def test_connections_that_stall_are_given_up_and_others_are_not():
    async def main() -> None:
        gate, stalled, busy = Gate(LIMITS), Fake("10.0.0.1"), Fake("10.0.0.2")
        arrived(gate, stalled, busy)
        stalled.is_overdue = True
        watching = asyncio.ensure_future(gate.watch())
        while not stalled.given_up:
            await asyncio.sleep(0.01)
        watching.cancel()
        assert not busy.given_up

    asyncio.run(main())
