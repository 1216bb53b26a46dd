"""TLS contexts for upstream connections: one per trust domain and process, because making one costs 20 ms.

It reads certificate files once and opens no connection. A changed file is read when the process starts again or
``forget`` is called.
The invariant: every context verifies certificates and host names; there is no switch to turn that off.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from roadbed.wire.errors import InvalidTlsFile


@dataclass(frozen=True, slots=True)
class TrustDomain:
    """Whom to trust and who to be: the system's authorities plus extra CA files, and a client certificate if any."""

    ca_files: tuple[str, ...] = ()
    client_certificate: str | None = None
    client_key: str | None = None
    only_ca_files: bool = False


DEFAULT_TRUST = TrustDomain()


def make_context(domain: TrustDomain) -> ssl.SSLContext:
    """A client context: TLS 1.2 or later, ALPN http/1.1, verification on. Raises ``InvalidTlsFile``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if not domain.only_ca_files:
        context.load_default_certs()
    for file in domain.ca_files:
        try:
            context.load_verify_locations(file)
        except (OSError, ssl.SSLError):
            raise InvalidTlsFile(f"the CA file {file} cannot be read", file=file) from None
    if domain.client_certificate is not None:
        try:
            context.load_cert_chain(domain.client_certificate, domain.client_key)
        except (OSError, ssl.SSLError):
            raise InvalidTlsFile(
                f"the client certificate {domain.client_certificate} or its key cannot be read",
                file=domain.client_certificate,
            ) from None
    return context


class TlsContexts:
    """Contexts by trust domain, made on first use."""

    def __init__(self) -> None:
        self._contexts: dict[TrustDomain, ssl.SSLContext] = {}

    def get(self, domain: TrustDomain) -> ssl.SSLContext:
        """The context of ``domain``."""
        context = self._contexts.get(domain)
        if context is None:
            context = self._contexts[domain] = make_context(domain)
        return context

    def forget(self, domain: TrustDomain) -> None:
        """Read the files of ``domain`` again at its next connection."""
        self._contexts.pop(domain, None)
