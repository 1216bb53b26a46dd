"""The handshake of a server that looks at its clients' certificates: one that is refused is told why.

asyncio ends a failed handshake without sending the alert that OpenSSL wrote for it, so that a client whose certificate
has run out would see a connection that closes for no reason. Here the alert goes out, and what the client sends after
it is thrown away until it leaves or the handshake's time is over. The invariant: a handshake that failed once never
succeeds.
"""

from __future__ import annotations

import logging
import ssl
from typing import Any

log = logging.getLogger("roadbed.wire")


class TellingSSLObject(ssl.SSLObject):
    """One connection's TLS."""

    incoming: ssl.MemoryBIO
    is_refused = False

    def do_handshake(self) -> None:
        """As of its base; after a refusal it only waits for the client to leave."""
        if self.is_refused:
            self.incoming.read()
            raise ssl.SSLWantReadError
        try:
            super().do_handshake()
        except ssl.SSLCertVerificationError as error:
            self.is_refused = True
            log.warning("a client's certificate was refused: %s", error.verify_message)
            raise ssl.SSLWantReadError from None  # asyncio sends what is to be sent, and waits


class ClientVerifyingContext(ssl.SSLContext):
    """A server's context whose connections are `TellingSSLObject`."""

    sslobject_class = TellingSSLObject

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *values: Any, **named: Any) -> ssl.SSLObject:
        """As of its base."""
        made = super().wrap_bio(incoming, outgoing, *values, **named)
        assert isinstance(made, TellingSSLObject)
        made.incoming = incoming
        return made
