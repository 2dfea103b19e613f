"""Zeroconf: lets Home Assistant find the Wyoming port by itself."""

import contextlib
import ipaddress
import platform
from collections.abc import AsyncIterator

from ....errors import ConfigError
from ...gate.security import is_local
from ...gate.tls import own_addresses

KIND = "_wyoming._tcp.local."


def addresses_of(host: str) -> list[str]:
    """The IPv4 addresses at which others reach ``host``.

    Raises: ConfigError for a host that only this machine can reach.
    """
    if is_local(host):
        raise ConfigError(
            f"--wyoming-zeroconf tells the network of a port that only this machine "
            f"can reach ({host}): give --wyoming-host 0.0.0.0 as well."
        )
    found = own_addresses() if host in ("0.0.0.0", "::", "") else [host]
    return [a for a in found if _is_ipv4(a)]


def _is_ipv4(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).version == 4
    except ValueError:
        return False


@contextlib.asynccontextmanager
async def announced(host: str, port: int) -> AsyncIterator[None]:
    """Announce the port on the local network while the context is open."""
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

    name = f"moshi-mlx on {platform.node().split('.')[0] or 'a computer'}"
    service = AsyncServiceInfo(
        KIND, f"{name}.{KIND}", port=port, parsed_addresses=addresses_of(host)
    )
    zeroconf = AsyncZeroconf()
    try:
        await zeroconf.async_register_service(service, allow_name_change=True)
        yield
    finally:
        await zeroconf.async_close()
