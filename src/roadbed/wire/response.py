"""The async face of a response: await its head, read its body whole or in pieces, with the upstream slowed to the
reader's pace.

Built on the callbacks of ``exchange``; for admin work, connectors and everything that is not the hot path.
The invariant: a reader sees either the whole body or an ``UpstreamFailed``, never a short body that looks whole.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType

from roadbed.wire.errors import ResponseCut, ResponseTooLarge, UpstreamFailed
from roadbed.wire.exchange import Exchange, ResponseHead

BUFFERED_BYTES_MAX = 256 * 1024
READ_BYTES_MAX = 16 * 1024 * 1024


class UpstreamResponse:
    """A response whose head has come (once ``UpstreamClient.request`` gives it). An async context manager that
    aborts what is unread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.exchange: Exchange | None = None
        self.head: ResponseHead | None = None
        self._loop = loop
        self._pieces: deque[bytes] = deque()
        self._buffered_bytes = 0
        self._is_complete = False
        self._error: UpstreamFailed | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def status(self) -> int:
        """The status code; only after the head has come."""
        assert self.head is not None
        return self.head.status

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Lower-case names and values, in order."""
        assert self.head is not None
        return self.head.headers

    def get(self, name: bytes) -> bytes | None:
        """The value of a header by its lower-case name."""
        assert self.head is not None
        return self.head.get(name)

    async def read(self, bytes_max: int = READ_BYTES_MAX) -> bytes:
        """The whole (rest of the) body. Raises ``UpstreamFailed``, ``ResponseTooLarge`` past ``bytes_max``."""
        pieces: list[bytes] = []
        size = 0
        async for piece in self:
            size += len(piece)
            if size > bytes_max:
                self.abort()
                raise ResponseTooLarge(f"a response body is over {bytes_max} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    def __aiter__(self) -> UpstreamResponse:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._is_complete:
                raise StopAsyncIteration
            await self._wait()
        piece = self._pieces.popleft()
        self._buffered_bytes -= len(piece)
        if self._buffered_bytes <= BUFFERED_BYTES_MAX // 2 and self.exchange is not None:
            self.exchange.resume_reading()
        return piece

    def abort(self) -> None:
        """Stop reading; closes the connection unless the response is complete. Safe to call at any time."""
        if self.exchange is not None:
            self.exchange.abort()
        if not self._is_complete and self._error is None:
            self._error = ResponseCut("the response was aborted by its reader")
        self._pieces.clear()
        self._wake()

    async def __aenter__(self) -> UpstreamResponse:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    async def wait_head(self) -> UpstreamResponse:
        """Wait for the head (called by the client). A cancelled wait aborts the exchange."""
        try:
            while self.head is None:
                if self._error is not None:
                    raise self._error
                await self._wait()
        except asyncio.CancelledError:
            self.abort()
            raise
        return self

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # The exchange's calls.

    def on_head(self, head: ResponseHead) -> None:
        """Status and headers are here."""
        self.head = head
        self._wake()

    def on_data(self, data: bytes) -> None:
        """A piece of the body."""
        self._pieces.append(data)
        self._buffered_bytes += len(data)
        if self._buffered_bytes > BUFFERED_BYTES_MAX and self.exchange is not None:
            self.exchange.pause_reading()
        self._wake()

    def on_complete(self) -> None:
        """The body is whole."""
        self._is_complete = True
        self._wake()

    def on_error(self, error: UpstreamFailed) -> None:
        """No whole response."""
        self._error = error
        self._wake()
