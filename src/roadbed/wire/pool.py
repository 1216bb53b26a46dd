"""The connections to one upstream: idle ones reused last-in first-out, a bounded number open, a bounded queue for
the rest.

One pool per (origin, trust domain, credential class, proxy). It owns waiting, connecting and idle connections; it
does not parse.
The invariant: open + connecting connections never pass ``connections_max`` (but for a pardoned retry), and each
waiting exchange has a connection being opened for it, or all slots are taken.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from dataclasses import dataclass

from roadbed.wire import errors
from roadbed.wire.address import Origin
from roadbed.wire.connect import Connector
from roadbed.wire.connection import GUESSES_MAX, UpstreamConnection
from roadbed.wire.exchange import Exchange
from roadbed.wire.known_head import KnownResponse
from roadbed.wire.proxy import Proxy
from roadbed.wire.sweep import Sweep


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of one pool; an endpoint's ``max_connections``, of at most 1,024, is to be the narrower one."""

    connections_max: int = 1024
    waiting_max: int = 1024
    idle_s_max: float = 20.0
    age_s_max: float = 300.0
    age_jitter: float = 0.2


class Pool:
    """The connections to one upstream."""

    def __init__(
        self,
        origin: Origin,
        proxy: Proxy | None,
        context: ssl.SSLContext | None,
        connector: Connector,
        limits: PoolLimits,
        idle_sweep: Sweep[Pool],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.name = origin.authority
        self.fixed_lines = b"host: %b\r\naccept-encoding: identity\r\n" % origin.host_header
        self.target_prefix = b""
        if proxy is not None and context is None:
            self.target_prefix = b"http://" + origin.host_header
            if proxy.authorization is not None:
                self.fixed_lines += b"proxy-authorization: %b\r\n" % proxy.authorization
        self.known: KnownResponse | None = None
        self.guesses_left = GUESSES_MAX
        self._origin = origin
        self._proxy = proxy
        self._context = context
        self._connector = connector
        self._limits = limits
        self._idle_sweep = idle_sweep
        self._loop = loop
        self._idle: list[UpstreamConnection] = []
        self._open: set[UpstreamConnection] = set()
        self._waiting: dict[Exchange, asyncio.Task[None] | None] = {}
        self._connecting: set[asyncio.Task[None]] = set()

    @property
    def open_count(self) -> int:
        """Connections open just now, idle ones among them."""
        return len(self._open)

    @property
    def idle_count(self) -> int:
        """Idle connections."""
        return len(self._idle)

    def render(self, method: bytes, target: bytes, headers: bytes) -> bytes:
        """A request's head up to the digits of its length, for requests that differ in nothing but their bodies."""
        return b"%b %b%b HTTP/1.1\r\n%b%bcontent-length: " % (
            method,
            self.target_prefix,
            target,
            self.fixed_lines,
            headers,
        )

    def submit(self, exchange: Exchange) -> None:
        """Send now on an idle connection, or wait for one."""
        idle = self._idle
        now = self._loop.time()
        while idle:
            connection = idle.pop()
            if now < connection.expires_at and now - connection.idle_since < self._limits.idle_s_max:
                connection.start(exchange)
                return
            connection.close()
        if len(self._waiting) >= self._limits.waiting_max:
            error = errors.PoolExhausted(f"too many requests wait for a connection to {self.name}")
            self._loop.call_soon(exchange.fail, error)
            return
        exchange.carrier = self
        self._waiting[exchange] = None
        self._connect_more()

    # The exchange's side.

    def drop(self, exchange: Exchange) -> None:
        """A waiting exchange was aborted or is overdue."""
        task = self._waiting.pop(exchange, None)
        if task is not None:
            task.cancel()

    def overdue(self, exchange: Exchange) -> errors.UpstreamFailed:
        """The error of an exchange that waited too long."""
        if self._waiting.get(exchange) is None:
            return errors.PoolExhausted(f"all connections to {self.name} are busy")
        return errors.ConnectTimeout(f"no connection to {self.name} in time")

    def pause_reading(self) -> None:
        """Nothing to pause while waiting."""

    def resume_reading(self) -> None:
        """Nothing to resume while waiting."""

    # The connections' side.

    def released(self, connection: UpstreamConnection) -> None:
        """A connection is free."""
        now = self._loop.time()
        if now >= connection.expires_at:
            connection.close()
            return
        if self._waiting:
            for exchange in self._waiting:
                if not exchange.is_retried:
                    self._start(connection, exchange)
                    return
        connection.idle_since = now
        self._idle.append(connection)
        if not self._idle_sweep.is_beating or len(self._idle) == 1:
            self._idle_sweep.add(self, self._loop)

    def _start(self, connection: UpstreamConnection, exchange: Exchange) -> None:
        """Send an exchange that waited; from now on another of its time limits counts."""
        del self._waiting[exchange]
        connection.start(exchange)
        exchange.watch(self._loop)

    def lost(self, connection: UpstreamConnection) -> None:
        """A connection is closed; may be told twice."""
        if connection in self._open:
            self._open.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._connect_more()

    def send_again(self, exchange: Exchange) -> None:
        """The idle-close race: once more, on a fresh connection."""
        exchange.is_retried = True
        exchange.is_sent = False
        exchange.carrier = self
        self._waiting = {exchange: None, **self._waiting}
        self._connect_more()

    def check(self, now: float) -> None:
        """Close what has been idle for too long (called by the sweep)."""
        for connection in list(self._idle):
            if now >= connection.expires_at or now - connection.idle_since >= self._limits.idle_s_max:
                connection.close()
        if not self._idle:
            self._idle_sweep.discard(self)

    def close(self) -> None:
        """Close everything: waiting exchanges and those under way fail."""
        for task in list(self._connecting):
            task.cancel()
        for exchange in list(self._waiting):
            exchange.fail(errors.ConnectFailed("the client is closed"))
        for connection in list(self._open):
            exchange_now = connection.exchange
            connection.close()
            if exchange_now is not None:
                exchange_now.fail(errors.ResponseCut("the client is closed"))
        self._idle_sweep.discard(self)

    def _connect_more(self) -> None:
        for exchange, task in self._waiting.items():
            if len(self._open) + len(self._connecting) >= self._limits.connections_max:
                return
            if task is None:
                task = self._loop.create_task(self._connect(exchange))
                self._waiting[exchange] = task
                self._connecting.add(task)
                task.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "opening a connection failed", "exception": error})
        self._connect_more()

    async def _connect(self, exchange: Exchange) -> None:
        """Open a connection for ``exchange``; if that was served meanwhile, for whoever waits, or to be idle."""
        connection = UpstreamConnection(self)
        try:
            await self._connector.open(self._origin, self._proxy, self._context, connection)
        except errors.UpstreamFailed as error:
            if exchange in self._waiting:
                exchange.fail(error)
            return
        limits = self._limits
        age = limits.age_s_max * (1 - limits.age_jitter * random.random())
        connection.expires_at = self._loop.time() + age
        self._open.add(connection)
        if not connection.is_usable:
            connection.close()
            if exchange in self._waiting:
                self._waiting[exchange] = None
            return
        if exchange in self._waiting:
            self._start(connection, exchange)
        else:
            self.released(connection)
