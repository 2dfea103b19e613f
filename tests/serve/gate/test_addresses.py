"""Allowances belong to addresses; only trusted proxies may name others."""

import asyncio

import pytest

from moshi_mlx.errors import ConfigError, ProtocolError
from moshi_mlx.serve.gate.addresses import Accounts, read_proxies
from moshi_mlx.serve.gate.limits import Account, Inflow, Limits

LIMITS = Limits()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def behind(peer: str, *forwarded: str) -> str:
    proxies = read_proxies(["10.0.0.0/8", "::1"])
    return Accounts(LIMITS, proxies).behind(peer, list(forwarded))


@pytest.mark.parametrize(
    "peer, forwarded, address",
    [
        ("1.2.3.4", ["5.6.7.8"], "1.2.3.4"),
        ("10.0.0.1", ["5.6.7.8"], "5.6.7.8"),
        ("10.0.0.1", ["9.9.9.9", "5.6.7.8"], "5.6.7.8"),
        ("10.0.0.1", ["5.6.7.8", "10.0.0.2"], "5.6.7.8"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["9.9.9.9", "unknown", "10.0.0.2"], "10.0.0.2"),
        ("::ffff:10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("::1", ["5.6.7.8"], "5.6.7.8"),
    ],
)
def test_a_client_is_whom_the_nearest_stranger_says_it_is(peer, forwarded, address):
    assert behind(peer, *forwarded) == address


def test_what_is_no_proxy_is_said():
    with pytest.raises(ConfigError, match="--trusted-proxy 'nginx' is no address"):
        read_proxies(["nginx"])
    assert [str(n) for n in read_proxies(["10.1.2.3/8", "::1"])] == [
        "10.0.0.0/8",
        "::1/128",
    ]


def test_a_network_of_ipv6_is_one_address_and_ipv4_in_it_is_ipv4():
    addresses = Accounts(LIMITS)
    assert addresses.account("2001:db8::1") is addresses.account("2001:db8::2:3")
    assert addresses.account("2001:db8:1::1") is not addresses.account("2001:db8::1")
    first = addresses.account("2001:db8:0:0::1")
    assert addresses.account("2001:db8:0:0:8000::1") is first
    assert addresses.account("2001:db8:0:1::1") is not first
    assert addresses.account("::ffff:1.2.3.4") is addresses.account("1.2.3.4")


def test_accounts_are_forgotten_when_nothing_is_owed():
    clock = Clock()
    addresses = Accounts(LIMITS, clock=clock)
    spent = addresses.account("1.1.1.1")
    spent.data.take(5)
    kept = addresses.account("2.2.2.2")
    kept.connections = 1
    clock.now = 0.000001
    for n in range(200):
        addresses.account(f"9.9.{n}.9")
    assert len(addresses._accounts) < 70
    assert addresses.account("1.1.1.1") is spent
    assert addresses.account("2.2.2.2") is kept


def test_every_64th_new_address_clears_those_that_owe_nothing():
    addresses, counts = Accounts(LIMITS, clock=Clock()), []
    for n in range(130):
        addresses.account(f"9.9.{n}.9")
        addresses.account(f"9.9.{n}.9")  # not new
        counts.append(len(addresses._accounts))
    assert counts[:63] == list(range(1, 64))
    assert counts[63:127] == list(range(1, 65))
    assert counts[127:] == [1, 2, 3]


def test_a_new_connection_does_not_fill_the_address_s_store_again():
    clock = Clock()
    account = Account(LIMITS, clock)
    taken = 0
    with pytest.raises(ProtocolError, match="data"):
        while True:
            inflow = Inflow(LIMITS, clock, account)
            for _ in range(20):
                inflow.message(100_000)
                taken += 1
    assert taken < 4e6 / 90_000


def test_who_talks_in_real_time_does_not_suffer_from_others_of_the_address():
    clock = Clock()
    account = Account(LIMITS, clock)
    account.data.take(1e9)
    account.sound.take(1e9)
    honest = Inflow(LIMITS, clock, account)
    for _ in range(2000):
        clock.now += 0.08
        account.data.take(1e9)
        account.sound.take(1e9)
        honest.message(7681)
        honest.sound(0.08)


def test_restarts_are_counted_for_the_address():
    account = Account(LIMITS, Clock())
    with pytest.raises(ProtocolError, match="too many restarts"):
        for _ in range(11):
            Inflow(LIMITS, Clock(), account).restart()
    assert account.restarts.left == 0


def test_sound_that_is_paced_waits_instead_of_being_refused():
    """Ten times real time: the sender is slowed down to the rate, nothing is lost."""
    inflow = Inflow(Limits(sound_per_s=50, burst_s=1))

    async def run() -> float:
        began = asyncio.get_running_loop().time()
        for _ in range(40):
            await inflow.paced(0.5)
        return asyncio.get_running_loop().time() - began

    took = asyncio.run(run())
    assert took >= (20 - 1 - 0.25 * 50) / (2 * 50), "it did not wait"
    with pytest.raises(ProtocolError, match="too much sound"):
        inflow.sound(1000)
