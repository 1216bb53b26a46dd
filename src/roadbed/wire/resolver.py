"""Host names to addresses, with a cache of 30 s that keeps the old answer while the resolver fails.

It calls the system's resolver in the loop's thread pool, and merges concurrent questions for one name. Literal
addresses are not asked for.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable

from roadbed.wire.errors import NameUnresolved

CACHE_S = 30.0
NAMES_MAX = 4096

Lookup = Callable[[str, int], Awaitable[list[str]]]


async def system_lookup(host: str, port: int) -> list[str]:
    """Ask the system's resolver."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_literal(host: str) -> bool:
    """Whether ``host`` is an IP address already."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Resolver:
    """Addresses by host name; one per client."""

    def __init__(self, lookup: Lookup = system_lookup, cache_s: float = CACHE_S) -> None:
        self._lookup = lookup
        self._cache_s = cache_s
        self._known: dict[str, tuple[float, list[str]]] = {}
        self._asking: dict[str, asyncio.Task[list[str]]] = {}

    async def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of ``host``, IPv6 and IPv4 taking turns. Raises ``NameUnresolved``."""
        if is_literal(host):
            return [host]
        loop = asyncio.get_running_loop()
        known = self._known.get(host)
        if known is not None and loop.time() < known[0]:
            return known[1]
        task = self._asking.get(host)
        if task is None:
            task = self._asking[host] = loop.create_task(self._ask(host, port))
            task.add_done_callback(lambda _: self._asking.pop(host, None))
        # Shielded: a caller that gives up must not take the answer from the others that wait for it.
        return await asyncio.shield(task)

    def close(self) -> None:
        """Ask no more: questions under way are cancelled."""
        for task in list(self._asking.values()):
            task.cancel()

    async def _ask(self, host: str, port: int) -> list[str]:
        known = self._known.get(host)
        try:
            addresses = _take_turns(await self._lookup(host, port))
        except OSError:
            addresses = known[1] if known is not None else []
        if not addresses:
            raise NameUnresolved(f"the host name {host} has no address")
        if len(self._known) >= NAMES_MAX:
            self._known.clear()
        self._known[host] = (asyncio.get_running_loop().time() + self._cache_s, addresses)
        return addresses


def _take_turns(addresses: list[str]) -> list[str]:
    """Alternate families, beginning with the family that the system put first (RFC 8305, section 4)."""
    if not addresses:
        return []
    first = ":" in addresses[0]
    ours = [address for address in addresses if (":" in address) == first]
    others = [address for address in addresses if (":" in address) != first]
    mixed: list[str] = []
    for index in range(max(len(ours), len(others))):
        mixed += ours[index : index + 1] + others[index : index + 1]
    return mixed
