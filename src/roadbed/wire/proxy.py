"""Which forward proxy, if any, leads to an upstream: ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``.

Pure functions of a mapping; the client asks once per pool. Lower-case names win, as in curl. Plain http goes to the
proxy in absolute form, https through a CONNECT tunnel. The invariant: loopback addresses never go through a proxy.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from roadbed.wire.address import Origin
from roadbed.wire.errors import InvalidProxy


@dataclass(frozen=True, slots=True)
class Proxy:
    """A forward proxy spoken to in plain HTTP. ``authorization`` is a ready header value, and no part of the repr."""

    host: str
    port: int
    authorization: bytes | None = None

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """The proxies for each scheme, and the hosts that go without."""

    http: Proxy | None = None
    https: Proxy | None = None
    bypass: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ProxySettings:
        """Read the usual variables. Raises ``InvalidProxy``."""

        def read(name: str) -> str:
            return environment.get(name.lower()) or environment.get(name.upper()) or ""

        everything = read("all_proxy")
        bypass = tuple(entry.strip().lower() for entry in read("no_proxy").split(",") if entry.strip())
        return cls(
            http=parse_proxy(read("http_proxy") or everything),
            https=parse_proxy(read("https_proxy") or everything),
            bypass=bypass,
        )

    def choose(self, origin: Origin) -> Proxy | None:
        """The proxy that leads to ``origin``, or None for a direct connection."""
        proxy = self.https if origin.is_tls else self.http
        if proxy is None or _is_loopback(origin.host):
            return None
        return None if any(_matches(entry, origin) for entry in self.bypass) else proxy


def parse_proxy(text: str) -> Proxy | None:
    """A proxy from ``http://[user:password@]host[:port]`` or ``host:port``; None from an empty text."""
    if not text:
        return None
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidProxy("a proxy address cannot be parsed") from None
    if parts.scheme != "http" or not host:
        raise InvalidProxy("a proxy address is not of the form http://host:port")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = b"Basic " + base64.b64encode(pair.encode())
    return Proxy(host, port or 80, authorization)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _matches(entry: str, origin: Origin) -> bool:
    """Whether a ``NO_PROXY`` entry (``*``, a name and its subdomains, an address, a network; each with a port or
    not) covers it.
    """
    if entry == "*":
        return True
    host = origin.host.lower()
    if "/" in entry:
        try:
            return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, separator, port = entry.rpartition(":")
    if separator and port.isdigit() and (":" not in name or name.startswith("[")):
        if int(port) != origin.port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*").removeprefix(".")
    return host == entry or host.endswith(f".{entry}")
