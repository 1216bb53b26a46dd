"""What a connection may bring while it is read: a count of bytes between a transport and its driver's protocol.

A driver keeps a message in memory until it is whole, and one row may be a gigabyte that a statement made of nothing.
`Incoming` hangs up before that. Used by `postgres.py`; the other systems bound a row themselves. The invariant: no more
than ``bytes_max`` and one read arrive between two calls of `allow`.
"""

from __future__ import annotations

import asyncio
from typing import Any


class Incoming(asyncio.Protocol):
    """Passes everything on to ``protocol``, which is the transport's until now. Counts from `allow` on."""

    def __init__(self, transport: asyncio.Transport, protocol: Any) -> None:
        self.is_over = False
        self._transport = transport
        self._protocol = protocol
        self._left_bytes: int | None = None
        transport.set_protocol(self)

    def allow(self, bytes_max: int | None) -> None:
        """How much may come from here on; None for any amount."""
        self._left_bytes = bytes_max

    def data_received(self, data: bytes) -> None:
        """Pass a piece on, or hang up."""
        if self._left_bytes is not None:
            self._left_bytes -= len(data)
            if self._left_bytes < 0:
                self.is_over = True
                self._transport.abort()
                return
        self._protocol.data_received(data)

    def eof_received(self) -> Any:
        """Pass it on."""
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._protocol.connection_lost(exc)
