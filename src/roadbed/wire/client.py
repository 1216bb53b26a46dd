"""The upstream HTTP/1.1 client: pooled connections, absolute time limits, callbacks for the hot path and an async
face for the rest.

It sends what it is given and retries nothing but the idle-close race; which upstream, how often and how long is its
caller's business. Content codings are not decoded: it asks for ``identity``. One client per event loop.
The invariant: each exchange ends in exactly one of ``on_complete``, ``on_error`` and ``abort``, and by then holds no
connection.
"""

from __future__ import annotations

import asyncio
import os

from roadbed.wire.address import Origin
from roadbed.wire.connect import Connector
from roadbed.wire.exchange import Exchange, ResponseHandler, UpstreamRequest
from roadbed.wire.pool import Pool, PoolLimits
from roadbed.wire.proxy import ProxySettings
from roadbed.wire.resolver import Resolver
from roadbed.wire.response import UpstreamResponse
from roadbed.wire.sweep import Sweep
from roadbed.wire.tls import TlsContexts, TrustDomain

CONNECT_S = 5.0
HEAD_S = 60.0
WATCH_BEAT_S = 0.25
IDLE_BEAT_S = 1.0
NEAR_MAX = 1024

PoolKey = tuple[Origin, TrustDomain, str]


class UpstreamClient:
    """A pool of pools. Made inside a running loop, closed by ``close``."""

    def __init__(
        self,
        *,
        limits: PoolLimits | None = None,
        proxies: ProxySettings | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._limits = limits or PoolLimits()
        self._proxies = proxies if proxies is not None else ProxySettings.from_environment(os.environ)
        self._resolver = resolver or Resolver()
        self._connector = Connector(self._resolver)
        self._contexts = TlsContexts()
        self._pools: dict[PoolKey, Pool] = {}
        self._near: dict[tuple[int, int, str], tuple[Origin, TrustDomain, Pool]] = {}
        self._watch: Sweep[Exchange] = Sweep(WATCH_BEAT_S)
        self._idle: Sweep[Pool] = Sweep(IDLE_BEAT_S)

    def send(
        self,
        request: UpstreamRequest,
        handler: ResponseHandler,
        connect_by: float,
        head_by: float,
        complete_by: float | None = None,
        pool: Pool | None = None,
    ) -> Exchange:
        """Send ``request``; ``handler`` is called from the loop, never from inside this call.

        The limits are points of ``loop.time()``: to have a connection, to have the response head, to have the whole
        response. ``pool`` is what `pool` gave for a request to the same address before.
        """
        exchange = Exchange(request, handler, connect_by, head_by, complete_by, self._watch)
        (pool or self.pool(request)).submit(exchange)
        exchange.watch(self.loop)
        return exchange

    async def request(
        self,
        request: UpstreamRequest,
        *,
        connect_s: float = CONNECT_S,
        head_s: float = HEAD_S,
        complete_s: float | None = None,
    ) -> UpstreamResponse:
        """Send ``request`` and wait for the response head. Raises ``UpstreamFailed``; read or abort what it gives."""
        now = self.loop.time()
        response = UpstreamResponse(self.loop)
        complete_by = None if complete_s is None else now + complete_s
        response.exchange = self.send(request, response, now + connect_s, now + head_s, complete_by)
        return await response.wait_head()

    def pool(self, request: UpstreamRequest) -> Pool:
        """The pool that serves ``request``."""
        origin, trust, credential_class = request.url.origin, request.trust, request.credential_class
        # Hashing the values costs 1.5 us a request, their identities 0.2. They are held, so no identity is used again.
        identity = (id(origin), id(trust), credential_class)
        near = self._near.get(identity)
        if near is not None:
            return near[2]
        pool = self._find_pool((origin, trust, credential_class))
        if len(self._near) >= NEAR_MAX:
            self._near.clear()
        self._near[identity] = (origin, trust, pool)
        return pool

    def _find_pool(self, key: PoolKey) -> Pool:
        origin, trust, _ = key
        pool = self._pools.get(key)
        if pool is None:
            context = self._contexts.get(trust) if origin.is_tls else None
            proxy = self._proxies.choose(origin)
            pool = Pool(origin, proxy, context, self._connector, self._limits, self._idle, self.loop)
            self._pools[key] = pool
        return pool

    async def close(self) -> None:
        """Close all connections and the resolver; exchanges under way fail."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        self._near.clear()
        self._resolver.close()
        self._watch.stop()
        self._idle.stop()
        await asyncio.sleep(0)  # transports call connection_lost in the next turn
