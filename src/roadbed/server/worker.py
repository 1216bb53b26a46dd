"""One serving process of several: takes its place on the shared socket, and keeps like its owner until told to stop.

It owns no database, lock, job or source; what it needs of its owner comes over the `Link`. SIGTERM drains it alone (its
owner starts another); when its owner is gone it drains for `ORPHAN_DRAIN_S` and ends. The invariant: it tells `Ready`
only after it accepts connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from pathlib import Path

from roadbed.gateway.orders import EndpointOrder
from roadbed.kernel.config import Document
from roadbed.kernel.errors import DeadlineExceeded, RoadbedError, Unavailable
from roadbed.kernel.secrets import Secret
from roadbed.releases.workspace import MANIFEST_NAME, Workspace
from roadbed.server.link import (
    Deployment,
    Drain,
    Failed,
    GiveMetrics,
    GiveOrder,
    Link,
    MetricsText,
    Ready,
    SourcesSeen,
    Start,
)
from roadbed.server.listening import build_server, settle_memory
from roadbed.server.services import Services, Serving, open_serving_services
from roadbed.server.settings import Settings
from roadbed.sources.registry import SourceHealth
from roadbed.wire.acceptor import Seat, Seats
from roadbed.wire.server import HotServer

log = logging.getLogger("roadbed.server")

ORPHAN_DRAIN_S = 2.0
ALL_METRICS_S = 2.0
RETRY_INTERVAL_S = 0.5


async def serve_worker(link_descriptor: int, listener_descriptor: int, seats_descriptor: int) -> bool:
    """Serve until the owner says stop or is gone; False when it could not start."""
    link = await Link.open(socket.socket(fileno=link_descriptor))
    listener = socket.socket(fileno=listener_descriptor)
    try:
        start = await link.receive()
        if not isinstance(start, Start):
            return False
        seats = Seats(seats_descriptor, start.workers)
        worker = Worker(link, start)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, worker.drain)
        try:
            await worker.run(listener, Seat(seats, start.number - 1))
        except RoadbedError as error:
            link.send(Failed(f"{error.message} ({error.hint})" if error.hint else error.message))
            await link.flush()
            return False
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
        return True
    finally:
        listener.close()
        link.close()


class Worker:
    """A serving process, as its owner's messages drive it."""

    def __init__(self, link: Link, start: Start) -> None:
        self._link = link
        self._start = start
        self._deployment = start.deployment
        self._services: Services | None = None
        self._serving: Serving | None = None
        self._sources: tuple[SourceHealth, ...] = ()
        self._server: HotServer | None = None
        self._must_stop = asyncio.Event()
        self._asked: dict[int, asyncio.Future[str]] = {}
        self._questions = 0

    async def run(self, listener: socket.socket, seat: Seat) -> None:
        """Open everything and serve. Raises what kept it from starting."""
        reading = asyncio.create_task(self._read(), name="owner-link")
        opening = asyncio.create_task(self._serve_when_possible(listener, seat), name="serving")
        stopping = asyncio.create_task(self._must_stop.wait(), name="stop")
        try:
            await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if self._server is None and not opening.done():
                opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await opening
        finally:
            for task in (reading, stopping):
                task.cancel()
            await asyncio.gather(reading, stopping, return_exceptions=True)

    def drain(self) -> None:
        """Begin to stop; harmless when it began already."""
        self._must_stop.set()
        if self._server is not None and not self._server.should_exit:
            self._server.stop()

    def _end_at_once(self) -> None:
        self.drain()
        if self._server is not None:
            self._server.force_exit = True

    async def _serve_when_possible(self, listener: socket.socket, seat: Seat) -> None:
        """Serve; while the database is away, wait for it: to end would count as a crash, and end the others in time."""
        while True:
            try:
                await self._serve(listener, seat)
                return
            except (Unavailable, DeadlineExceeded) as error:
                if self._services is not None:
                    raise
                log.warning("serving process %d waits: %s", self._start.number, error.message)
            await asyncio.sleep(RETRY_INTERVAL_S)

    async def _serve(self, listener: socket.socket, seat: Seat) -> None:
        start = self._start
        serving = self._serving = Serving(start.number, start.deployment, self._all_metrics, self._order, self._sources)
        async with open_serving_services(_settings_of(start), _workspace_of(start), serving) as services:
            while serving.deployment is not self._deployment:
                await services.agree(self._deployment)  # what changed while it was opened
            self._services = services
            self._server = build_server(services, listener, start.url, seat)
            running = asyncio.create_task(self._server.serve(), name="http-server")
            ready = asyncio.create_task(self._server.ready.wait(), name="http-ready")
            await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            if not running.done():
                settle_memory()
                self._link.send(Ready())
            await running

    async def _read(self) -> None:
        while (message := await self._link.receive()) is not None:
            match message:
                case Deployment():
                    await self._agree(message)
                case SourcesSeen(states):
                    self._sources = states
                    if self._serving is not None:
                        self._serving.sources = states
                case GiveMetrics(number):
                    self._link.send(MetricsText(number, self._metrics()))
                case MetricsText(number, text):
                    if (waiting := self._asked.pop(number, None)) is not None and not waiting.done():
                        waiting.set_result(text)
                case Drain(is_forced):
                    (self._end_at_once if is_forced else self.drain)()
                case _:
                    log.error("an unexpected message came from the owner")
        if not self._must_stop.is_set():
            log.error("the process that owns this deployment is gone; this one stops")
        self.drain()
        asyncio.get_running_loop().call_later(ORPHAN_DRAIN_S, self._end_at_once)
        await asyncio.Event().wait()

    async def _agree(self, deployment: Deployment) -> None:
        self._deployment = deployment
        if self._services is None:
            return
        try:
            await self._services.agree(deployment)
        except RoadbedError as error:
            log.error("a change of the workspace is not taken here: %s", error.message)

    def _order(self, order: EndpointOrder) -> None:
        """Have the owner tell all processes, this one too."""
        self._link.send(GiveOrder(order))

    def _metrics(self) -> str:
        return self._services.metrics.render() if self._services is not None else ""

    async def _all_metrics(self) -> str:
        """The sum over all processes; this one's own when the owner does not answer."""
        self._questions += 1
        number, answer = self._questions, asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._link.send(GiveMetrics(number))
        try:
            async with asyncio.timeout(ALL_METRICS_S):
                return str(await answer)
        except TimeoutError:
            return self._metrics()
        finally:
            self._asked.pop(number, None)


def _settings_of(start: Start) -> Settings:
    return Settings(
        workspace=Path(start.workspace),
        state=Path(start.state),
        host=start.host,
        database=Secret(start.dsn),
        schema=start.schema,
        workers=start.workers,
        tls_cert=Path(start.tls_cert) if start.tls_cert else None,
        tls_key=Path(start.tls_key) if start.tls_key else None,
        tls_client_ca=Path(start.tls_client_ca) if start.tls_client_ca else None,
        tls_client_crl=Path(start.tls_client_crl) if start.tls_client_crl else None,
        tls_client_required=start.tls_client_required,
        behind_proxy=start.behind_proxy,
    )


def _workspace_of(start: Start) -> Workspace:
    """The workspace as the owner took it: the folder itself may hold a manifest that cannot be served."""
    nothing = Document({}, {}, MANIFEST_NAME)
    return Workspace(Path(start.workspace), start.deployment.manifest, nothing, {}, is_inferred=False)
