"""The certificate that a client showed, as far as it names somebody. TLS has verified it before it is read here.

Read once per connection, and only where a server asks for certificates. The invariant: names are those of the
certificate itself, unchanged; whoever compares them decides how.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from dataclasses import dataclass
from typing import Any, Final

NAMES_MAX: Final = 100
SCOPE_KEY: Final = "client_certificate"
"""Where an ASGI scope holds it."""


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """Whom a certificate names. ``expires_at`` is in seconds since 1970: a connection can outlive its certificate."""

    uris: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    common_names: tuple[str, ...] = ()
    expires_at: float = 0.0


def peer_certificate(transport: asyncio.BaseTransport) -> PeerCertificate | None:
    """The certificate that the other side of a connection was verified by; None where it showed none."""
    connection = transport.get_extra_info("ssl_object")
    shown = connection.getpeercert() if connection is not None else None
    return read_certificate(shown) if shown else None


def is_local(peer: tuple[str, int] | None) -> bool:
    """Whether the other side is this machine."""
    try:
        return peer is not None and ipaddress.ip_address(peer[0].partition("%")[0]).is_loopback
    except ValueError:
        return False


def read_certificate(shown: dict[str, Any]) -> PeerCertificate:
    """What `ssl.SSLObject.getpeercert` tells."""
    others = tuple(shown.get("subjectAltName", ()))[:NAMES_MAX]
    subject = [pair for part in shown.get("subject", ()) for pair in part][:NAMES_MAX]
    return PeerCertificate(
        uris=tuple(value for kind, value in others if kind == "URI"),
        dns_names=tuple(value for kind, value in others if kind == "DNS"),
        common_names=tuple(value for kind, value in subject if kind == "commonName"),
        expires_at=float(ssl.cert_time_to_seconds(shown["notAfter"])),
    )
