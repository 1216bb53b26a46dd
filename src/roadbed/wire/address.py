"""Upstream addresses: an absolute URL parsed once into what the client needs for every request.

Pure. The client keys its pools by ``Origin``; whoever configures upstreams parses their URLs once, at start.
The invariant: ``host`` is bare (no brackets), ``host_header`` and ``authority`` are as they go on the wire.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from roadbed.wire.errors import InvalidUrl

_PORTS = {"http": 80, "https": 443}
_TARGET_FORBIDDEN = frozenset(range(0x21)) | {0x7F}


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where to connect: scheme, bare host and port."""

    scheme: str
    host: str
    port: int

    @property
    def is_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """``host:port`` with an IPv6 host in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def host_header(self) -> bytes:
        """The ``Host`` header: the authority, without the scheme's usual port."""
        authority = self.authority
        return (authority.rpartition(":")[0] if self.port == _PORTS[self.scheme] else authority).encode("ascii")


class Url(msgspec.Struct, frozen=True, gc=False):
    """An absolute URL: its origin and its target (path and query) as it goes on the wire."""

    origin: Origin
    target: bytes

    def join(self, path: str) -> Url:
        """This URL with ``path`` (``/models``, with a query if any) appended to its own path."""
        return Url(self.origin, check_target(self.target.partition(b"?")[0].rstrip(b"/") + path.encode("ascii")))


def check_target(target: bytes) -> bytes:
    """``target`` as it is, or ``InvalidUrl`` where it would break a request line apart."""
    if not target.startswith(b"/") or not target.isascii() or any(byte in _TARGET_FORBIDDEN for byte in target):
        raise InvalidUrl("the path of an upstream URL holds characters that must be percent-encoded")
    return target


def parse_url(text: str) -> Url:
    """Parse an absolute ``http`` or ``https`` URL. Raises ``InvalidUrl``."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise InvalidUrl("an upstream URL cannot be parsed") from None
    host = parts.hostname
    if parts.scheme not in _PORTS or not host:
        raise InvalidUrl("an upstream URL needs http:// or https:// and a host")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise InvalidUrl("an upstream URL holds a user name, a password or a fragment")
    try:
        host = host.encode("idna").decode("ascii") if ":" not in host else host
    except UnicodeError:
        raise InvalidUrl("the host of an upstream URL is not a valid name") from None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        raw = target.encode("ascii")
    except UnicodeEncodeError:
        raise InvalidUrl("the path of an upstream URL holds characters that must be percent-encoded") from None
    return Url(Origin(parts.scheme, host, _PORTS[parts.scheme] if port is None else port), check_target(raw))
