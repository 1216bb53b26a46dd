"""Which network addresses a request may go to: public ones, and those of private networks where a source says so. Pure.

The table is ours, since `ipaddress.is_global` calls some of these global (6to4 and NAT64 forms of private addresses, a
cloud's metadata service). The registries are IANA's special-purpose address registries for IPv4 and IPv6. The
invariant: an address that is written in a form not foreseen here is of no kind that may be asked.
"""

from __future__ import annotations

import ipaddress
from typing import Literal

AddressKind = Literal["public", "private", "forbidden"]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "::1/128", "fc00::/7")
)
# The first three stand inside a private range and are metadata services of clouds: never asked, whatever a source says.
_FORBIDDEN = tuple(
    ipaddress.ip_network(text)
    for text in (
        "100.100.100.200/32", "fd00:ec2::/32", "fd20:ce::254/128", "168.63.129.16/32",
        "0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24",
        "192.88.99.0/24", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:2::/48", "2001:10::/28",
        "2001:20::/28", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fe80::/10", "fec0::/10", "ff00::/8",
    )
)  # fmt: skip
_MAPPED = ipaddress.ip_network("::ffff:0:0/96")
_LOOPBACK_6 = ipaddress.IPv6Address("::1")


def kind_of(text: str) -> AddressKind:
    """What kind of address a text is; ``forbidden`` also when it is none, or names an interface (``fe80::1%eth0``)."""
    try:
        address: Address = ipaddress.ip_address(text)
    except ValueError:
        return "forbidden"
    return "forbidden" if "%" in text else _kind(address)


def _kind(address: Address) -> AddressKind:
    if address in _MAPPED:
        return _kind(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    if address == _LOOPBACK_6:
        return "private"
    if any(address in network for network in _FORBIDDEN):
        return "forbidden"
    if any(address in network for network in _PRIVATE):
        return "private"
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return "forbidden"
    return "public"
