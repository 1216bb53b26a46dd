"""`OtlpExporter`: sends finished traces to an OpenTelemetry collector, by OTLP over HTTP in JSON.

The ledger's writer offers it each trace of its batches; a task of its own sends them. Nothing waits for it: over
`QUEUE_TRACES_MAX`, and after `TRIES_MAX` refusals of a batch, traces are dropped and counted. The invariant: a
collector that is away or slow costs no request any time, and bounded memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from roadbed.kernel.errors import ConfigError
from roadbed.kernel.secrets import Secret
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.otlp_counts import COUNTED, counted_metrics
from roadbed.ledger.otlp_rows import Server, resource_metrics, resource_spans
from roadbed.ledger.trace import Trace
from roadbed.wire.address import parse_url
from roadbed.wire.client import UpstreamClient
from roadbed.wire.errors import UpstreamFailed
from roadbed.wire.exchange import UpstreamRequest

log = logging.getLogger("roadbed.ledger")

QUEUE_TRACES_MAX = 4096
BATCH_TRACES_MAX = 256
INTERVAL_S = 1.0
SEND_S = 10.0
TRIES_MAX = 3
BACKOFF_S = 1.0
CLOSE_S = 2.0
RETRIED = frozenset({429, 502, 503, 504})


class Collector(msgspec.Struct, frozen=True):
    """Where traces go. ``headers`` are ``name=value`` pairs with commas between, as OpenTelemetry writes them."""

    url: str
    headers: Secret | None = None
    has_content: bool = False


class OtlpExporter:
    """Sends to one collector, or to none. ``servers`` says where the endpoints are."""

    def __init__(
        self,
        client: UpstreamClient,
        metrics: Metrics,
        service: str,
        version: str,
        servers: Callable[[], Mapping[str, Server]],
    ) -> None:
        self._client = client
        self._metrics = metrics
        self._service = service
        self._version = version
        self._servers = servers
        self._collector: Collector | None = None
        self._queue: deque[Trace] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._since_ns = self._began_ns = time.time_ns()
        metrics.declare("roadbed_otlp_sent_total", "counter", "traces that a collector took")
        metrics.declare("roadbed_otlp_dropped_total", "counter", "traces that were not sent", "reason")
        metrics.gauge_from("roadbed_otlp_queue", "traces waiting to be sent", lambda: float(len(self._queue)))

    def configure(self, collector: Collector | None) -> None:
        """Send to this collector from now on, or to none. `ConfigError` for what is no address or no header."""
        if collector is not None:
            parse_url(collector.url)
            headers_of(collector)
        self._collector = collector
        if collector is None:
            self._queue.clear()
        elif self._task is None:
            self._task = asyncio.create_task(self._run(), name="otlp")

    def offer(self, trace: Trace) -> None:
        """Take a finished trace; never waits."""
        if self._collector is None:
            return
        if len(self._queue) >= QUEUE_TRACES_MAX:
            self._metrics.add("roadbed_otlp_dropped_total", ("queue_full",))
            return
        self._queue.append(trace)
        if len(self._queue) >= BATCH_TRACES_MAX:
            self._wake.set()

    async def close(self) -> None:
        """Send what is left, for `CLOSE_S` at most."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                while self._queue:
                    await self._send_batch(tries_max=1)
        if self._queue:
            self._metrics.add("roadbed_otlp_dropped_total", ("stopped",), amount=len(self._queue))
            self._queue.clear()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_S):  # `wait_for` of Python 3.11 can swallow a cancellation
                    await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._send_batch()

    async def _send_batch(self, tries_max: int = TRIES_MAX) -> None:
        collector = self._collector
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_TRACES_MAX))]
        if collector is None or not batch:
            return
        since_ns, self._since_ns = self._since_ns, time.time_ns()
        counted = counted_metrics(self._metrics.read(COUNTED), self._began_ns, self._since_ns)
        bodies = await asyncio.to_thread(self._encode, batch, collector, since_ns, self._since_ns, counted)
        is_taken = True
        for path, body in bodies:
            is_taken = await self._send(collector, path, body, tries_max) and is_taken
        if is_taken:
            self._metrics.add("roadbed_otlp_sent_total", amount=len(batch))
        else:
            self._metrics.add("roadbed_otlp_dropped_total", ("refused",), amount=len(batch))

    def _encode(
        self, batch: list[Trace], collector: Collector, since_ns: int, now_ns: int, counted: list[dict[str, Any]]
    ) -> tuple[tuple[str, bytes], ...]:
        servers = self._servers()
        service, version = self._service, self._version
        spans = resource_spans(batch, service, version, servers, has_content=collector.has_content)
        metrics = resource_metrics(batch, service, version, servers, since_ns, now_ns, counted)
        return ("/v1/traces", msgspec.json.encode(spans)), ("/v1/metrics", msgspec.json.encode(metrics))

    async def _send(self, collector: Collector, path: str, body: bytes, tries_max: int) -> bool:
        url = parse_url(collector.url.rstrip("/") + path)
        request = UpstreamRequest(b"POST", url, headers_of(collector), body, credential_class="otlp")
        said: Any = ""
        for number in range(tries_max):
            if number:
                await asyncio.sleep(BACKOFF_S * 2**number)
            try:
                response = await self._client.request(request, head_s=SEND_S, complete_s=SEND_S)
                async with response:
                    await response.read()
            except UpstreamFailed as error:
                said = error.message
                continue
            if 200 <= response.status < 300:
                return True
            said = f"status {response.status}"
            if response.status not in RETRIED:
                break
        log.warning("the collector at %s did not take a batch: %s", url.origin.host, said)
        return False


def headers_of(collector: Collector) -> list[tuple[bytes, bytes]]:
    """The headers of a request. `ConfigError` for a pair that cannot stand in a head; it is not quoted."""
    headers = [(b"content-type", b"application/json")]
    for pair in filter(None, (collector.headers.reveal() if collector.headers else "").split(",")):
        name, separator, value = pair.strip().partition("=")
        if not separator or not name.isascii() or not name.replace("-", "").isalnum() or not value.isprintable():
            raise ConfigError("traces.otlp.headers is not a list of name=value with commas between")
        headers.append((name.lower().encode(), value.encode("latin-1", "replace")))
    return headers
