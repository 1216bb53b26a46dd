"""Where a key may be used from: IP ranges, written by people, and the address that a request comes from. Pure.

Who stands behind a connection is decided by `caller_address`: the peer, or, only where the operator said that a proxy
is in front, the address that this proxy put last into ``x-forwarded-for``; what stands before it was written by the
caller. The invariant: an address that is not known is in no range.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

from roadbed.guard.keys import KeyRequestInvalid
from roadbed.kernel.errors import Forbidden
from roadbed.kernel.principal import Network, Principal

NETWORKS_MAX: Final = 64
ADDRESS_CHARACTERS_MAX: Final = 64


class AddressNotAllowed(Forbidden):
    """The key may not be used from this address."""

    code = "auth.address_not_allowed"
    hint = "use the key from one of its IP ranges; behind a proxy the server needs --behind-proxy to see callers"


def check_networks(texts: Iterable[str]) -> list[str]:
    """IP ranges in their usual form, each once. `KeyRequestInvalid` for one that is none."""
    found: dict[str, None] = {}
    for text in texts:
        try:
            found[str(ipaddress.ip_network(text.strip(), strict=False))] = None
        except ValueError:
            message = f"{text[:ADDRESS_CHARACTERS_MAX]!r} is no IP range"
            raise KeyRequestInvalid(
                message, hint="write an address or a range such as 10.0.0.0/8", param="ip"
            ) from None
    if len(found) > NETWORKS_MAX:
        raise KeyRequestInvalid(f"a key has at most {NETWORKS_MAX} IP ranges", param="ip")
    return list(found)


def caller_address(peer: Sequence[object] | None, forwarded_for: bytes | None, *, behind_proxy: bool) -> str:
    """The address that a request comes from; empty when it is not known. ``forwarded_for`` is the last such header."""
    if not behind_proxy:
        return str(peer[0]) if peer else ""
    return (forwarded_for or b"").rpartition(b",")[2].strip()[:ADDRESS_CHARACTERS_MAX].decode("latin-1")


def is_within(address: str, networks: Iterable[Network]) -> bool:
    """Whether an address, maybe with a port behind it, is in one of the ranges."""
    parsed = _parse(address)
    return parsed is not None and any(parsed in network for network in networks)


def require_address(principal: Principal, address: str) -> None:
    """Refuse a caller whose key is bound to other addresses. Raises `AddressNotAllowed`."""
    if principal.networks and not is_within(address, principal.networks):
        raise AddressNotAllowed("this key may not be used from this address")


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if address.startswith("["):
        address = address[1:].partition("]")[0]
    elif address.count(":") == 1:
        address = address.partition(":")[0]
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    # A socket of both families shows an IPv4 peer in its IPv6 form.
    return getattr(parsed, "ipv4_mapped", None) or parsed
