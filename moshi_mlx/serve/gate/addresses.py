"""The address of each connection, and the budget that each address has left."""

import ipaddress
import time
from collections.abc import Iterable

from ...errors import ConfigError
from .limits import Account, Clock, Limits

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_FORGET_EVERY = 64  # new addresses


class Accounts:
    """The accounts of all addresses that were seen recently.

    Args:
        proxies: networks of trusted proxies, whose X-Forwarded-For is used; anybody
            else could write anything there.
    """

    def __init__(
        self,
        limits: Limits,
        proxies: Iterable[Network] = (),
        clock: Clock = time.monotonic,
    ):
        self._limits, self._clock = limits, clock
        self._proxies = list(proxies)
        self._accounts: dict[str, Account] = {}
        self._new = 0

    def account(self, address: str) -> Account:
        """The account of an address; in IPv6, that of its network of 2^64."""
        key = _shared(address)
        if key not in self._accounts:
            self._new += 1
            if self._new % _FORGET_EVERY == 0:
                self._forget()
            self._accounts[key] = Account(self._limits, self._clock)
        return self._accounts[key]

    def _forget(self) -> None:
        kept = {key: a for key, a in self._accounts.items() if a.spent}
        self._accounts = kept

    def is_proxy(self, address: str) -> bool:
        parsed = _parsed(address)
        return parsed is not None and any(parsed in net for net in self._proxies)

    def behind(self, peer: str, forwarded: list[str]) -> str:
        """The client behind ``peer``: the nearest address that is no trusted proxy."""
        address = peer
        for hop in reversed(forwarded):
            if not self.is_proxy(address) or _parsed(hop) is None:
                break
            address = hop
        return address


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(parsed, "ipv4_mapped", None)
    return parsed if mapped is None else mapped


def _shared(address: str) -> str:
    parsed = _parsed(address)
    if isinstance(parsed, ipaddress.IPv6Address) and not parsed.is_loopback:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address if parsed is None else str(parsed)


def read_proxies(texts: Iterable[str]) -> list[Network]:
    """The networks in ``--trusted-proxy``, including single addresses.

    Raises: ConfigError for anything that is not an address.
    """
    networks: list[Network] = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError as error:
            raise ConfigError(
                f"--trusted-proxy {text!r} is no address: write it like 10.0.0.2, or a "
                "network like 10.0.0.0/8."
            ) from error
    return networks
