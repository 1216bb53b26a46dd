"""The owner's side of ``--workers N``: starts the serving processes, tells them what changed, replaces those that end.

The owner itself serves nothing; it holds the listening socket, PostgreSQL, jobs and sources, and each serving process
is a fresh interpreter that inherits the socket (`worker_process.py`). One more stands ready, its program loaded, to
replace one that ends; whether it does is decided in `restarts.py`. The invariant: when `serve` returns or raises, no
process that it started is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

from roadbed.ledger.exposition import add_up, without_gauges
from roadbed.server.link import (
    Deployment,
    Drain,
    Failed,
    GiveMetrics,
    GiveOrder,
    Link,
    Message,
    MetricsText,
    Ready,
    SourcesSeen,
    Start,
    WorkerLost,
)
from roadbed.server.listening import DRAIN_S, tls_of
from roadbed.server.restarts import CRASH_WINDOW_S, plan_restart
from roadbed.server.services import Services, schema_of
from roadbed.server.worker_process import WorkerProcess
from roadbed.wire.acceptor import Seats

log = logging.getLogger("roadbed.server")

TELL_INTERVAL_S = 0.1
SOURCES_INTERVAL_S = 1.0
METRICS_INTERVAL_S = 5.0
METRICS_WAIT_S = 1.0
METRICS_ROUNDS_MAX = 8
SPARE_INTERVAL_S = 5.0
STOP_MARGIN_S = 30.0
FORCED_STOP_S = 10.0


@dataclass(slots=True, eq=False)
class _Slot:
    """One place for a serving process, and the process in it."""

    number: int
    process: WorkerProcess | None = None
    is_ready: bool = False
    told: Deployment | None = None
    told_sources: SourcesSeen | None = None
    metrics: str = ""
    failure: str = ""
    crashes: tuple[float, ...] = ()
    asked: dict[int, asyncio.Future[None]] = field(default_factory=dict)


class Workers:
    """The serving processes of one deployment. The same face as a `HotServer`: `serve`, `ready`, `stop`."""

    def __init__(self, services: Services, listener: socket.socket, url: str, command: Sequence[str]) -> None:
        settings = services.settings
        tls = tls_of(settings)
        if tls is not None:
            tls.make_context()  # refuse bad files here, once
        self.ready = asyncio.Event()
        self._services = services
        self._listener = listener
        self._url = url
        self._command = tuple(command)
        self._slots = [_Slot(number) for number in range(1, settings.workers + 1)]
        self._seats = Seats.create(settings.workers)
        self._stopping = asyncio.Event()
        self._is_forced = False
        self._spare: WorkerProcess | None = None
        self._spare_at = 0.0
        self._ended_metrics = ""
        self._rounds = 0
        self._answering: set[asyncio.Task[None]] = set()
        services.metrics.declare("roadbed_worker_restarts_total", "counter", "serving processes that were replaced")
        services.metrics.gauge_from("roadbed_workers", "serving processes that run", lambda: float(self.running))

    @property
    def running(self) -> int:
        """How many processes serve just now."""
        return sum(slot.is_ready for slot in self._slots)

    @property
    def _is_whole(self) -> bool:
        """Whether all serve and none has to stop."""
        return self.running == len(self._slots) and not self._stopping.is_set()

    def stop(self) -> None:
        """Have all processes drain; a second call ends them at once."""
        self._is_forced = self._stopping.is_set()
        self._stopping.set()
        self._listener.close()
        for slot in self._slots:
            self._send(slot, Drain(self._is_forced))
        if self._is_forced:
            asyncio.get_running_loop().call_later(FORCED_STOP_S, self._kill)

    async def serve(self) -> None:
        """Run the processes until `stop`. Raises `WorkerLost` when one ends again and again."""
        keeping = [asyncio.create_task(self._keep(slot), name=f"worker-{slot.number}") for slot in self._slots]
        telling = asyncio.create_task(self._tell(), name="workers-tell")
        stopping = asyncio.create_task(self._stopping.wait(), name="workers-stop")
        try:
            both = (*keeping, telling)
            await asyncio.wait((*both, stopping), return_when=asyncio.FIRST_COMPLETED)
            for task in both:
                if task.done():
                    task.result()
        finally:
            if not self._stopping.is_set():
                self.stop()
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            await self._end_spare()
            _, late = await asyncio.wait(keeping, timeout=DRAIN_S + STOP_MARGIN_S)
            if late:
                log.error("%d serving processes do not end; they are killed", len(late))
                self._kill()
            stopping.cancel()
            for task in self._answering:
                task.cancel()
            await asyncio.gather(*keeping, stopping, *self._answering, return_exceptions=True)
            self._seats.close()
            self._services.ledger.adopt_spools()
            self._services.trail.audit.adopt_spools()

    def _kill(self) -> None:
        for slot in self._slots:
            if slot.process is not None:
                slot.process.kill()

    # -- one place ----------------------------------------------------------------------------------------------------

    async def _keep(self, slot: _Slot) -> None:
        """Keep a process in this place until the stop."""
        while not self._stopping.is_set():
            try:
                code = await self._run_one(slot)
            except OSError as error:  # no memory, no process, no descriptor: perhaps there is in a moment
                code, slot.failure = -1, f"it cannot be started: {error.strerror}"
            self._settle(slot)
            if self._stopping.is_set():
                return
            plan = plan_restart(slot.crashes, asyncio.get_running_loop().time())
            slot.crashes = plan.crashes
            if plan.delay_s is None:
                why = slot.failure or f"with status {code}"
                times = f"{len(plan.crashes)} times within {CRASH_WINDOW_S:.0f} s"
                raise WorkerLost(f"serving process {slot.number} ended {times}: {why}")
            log.error("serving process %d ended (%s); it is started again", slot.number, slot.failure or code)
            self._services.metrics.add("roadbed_worker_restarts_total")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), plan.delay_s)

    async def _run_one(self, slot: _Slot) -> int:
        """Start a process, do what it asks, and wait for its end; its exit status."""
        slot.process = process = await self._take_process()
        slot.failure = ""
        slot.told = self._services.deployment(self.running)
        process.link.send(self._start_of(slot.number, slot.told))
        if self._stopping.is_set():
            process.link.send(Drain(self._is_forced))
        reading = asyncio.create_task(self._read(slot, process.link), name=f"worker-{slot.number}-link")
        try:
            code = await process.wait()
            await reading
        finally:
            process.kill()
            reading.cancel()
            process.link.close()
        return code

    async def _take_process(self) -> WorkerProcess:
        """The spare one, which has loaded its program already, or a new one."""
        spare, self._spare = self._spare, None
        if spare is not None and spare.is_running:
            return spare
        return await WorkerProcess.start(self._command, self._listener, self._seats.descriptor)

    def _settle(self, slot: _Slot) -> None:
        """Take over what a process that ended had: its place, its spool, its counters."""
        slot.process, slot.is_ready, slot.told, slot.told_sources = None, False, None, None
        self._seats.set(slot.number - 1, -1)
        self._ended_metrics = add_up([self._ended_metrics, without_gauges(slot.metrics)])
        slot.metrics = ""
        self._services.ledger.adopt_spools()
        self._services.trail.audit.adopt_spools()

    async def _read(self, slot: _Slot, link: Link) -> None:
        while (message := await link.receive()) is not None:
            match message:
                case Ready():
                    slot.is_ready = True
                    if self.running == len(self._slots):
                        self.ready.set()
                case MetricsText(number, text):
                    slot.metrics = text
                    if (waiting := slot.asked.pop(number, None)) is not None and not waiting.done():
                        waiting.set_result(None)
                case GiveMetrics(number):
                    self._answer(link, number)
                case GiveOrder(order):
                    self._services.orders.add(order)
                case Failed(text):
                    slot.failure = text
                case _:
                    log.error("an unexpected message came from serving process %d", slot.number)

    def _start_of(self, number: int, deployment: Deployment) -> Start:
        services, settings = self._services, self._services.settings
        dsn = services.embedded.dsn if services.embedded is not None else None
        if dsn is None:
            assert settings.database is not None
            dsn = settings.database.reveal()
        return Start(
            number=number,
            workers=settings.workers,
            workspace=str(services.workspace.folder),
            state=str(settings.state),
            dsn=dsn,
            schema=schema_of(settings, services.manifest),
            host=settings.host,
            url=self._url,
            tls_cert=str(settings.tls_cert.absolute()) if settings.tls_cert else None,
            tls_key=str(settings.tls_key.absolute()) if settings.tls_key else None,
            tls_client_ca=str(settings.tls_client_ca.absolute()) if settings.tls_client_ca else None,
            tls_client_crl=str(settings.tls_client_crl.absolute()) if settings.tls_client_crl else None,
            tls_client_required=settings.tls_client_required,
            behind_proxy=settings.behind_proxy,
            deployment=deployment,
        )

    # -- all of them --------------------------------------------------------------------------------------------------

    def _send(self, slot: _Slot, message: Message) -> None:
        if slot.process is not None:
            slot.process.link.send(message)

    async def _tell(self) -> None:
        """Tell every process what changed, and note its metrics now and then, so that they outlive it."""
        loop = asyncio.get_running_loop()
        noted_at = loop.time()
        sources, sources_at = SourcesSeen(()), 0.0
        while True:
            if loop.time() - sources_at >= SOURCES_INTERVAL_S:
                sources, sources_at = SourcesSeen(tuple(self._services.source_connections())), loop.time()
            deployment = self._services.deployment(self.running)
            for slot in self._slots:
                if slot.process is not None and slot.told != deployment:
                    slot.told = deployment
                    self._send(slot, deployment)
                if slot.process is not None and slot.told_sources != sources:
                    slot.told_sources = sources
                    self._send(slot, sources)
            if self._is_whole and loop.time() - self._spare_at >= SPARE_INTERVAL_S:
                await self._keep_spare()
            if loop.time() - noted_at >= METRICS_INTERVAL_S:
                noted_at = loop.time()
                await self._collect()
            await asyncio.sleep(TELL_INTERVAL_S)

    async def _keep_spare(self) -> None:
        """Have one more process than serve, with its program loaded: most of what a start takes."""
        if self._spare is None or not self._spare.is_running:
            self._spare_at = asyncio.get_running_loop().time()
            try:
                self._spare = await WorkerProcess.start(self._command, self._listener, self._seats.descriptor)
            except OSError as error:
                log.warning("no process can be started to stand ready: %s", error.strerror)

    async def _end_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.kill()
            await spare.wait()
            spare.link.close()

    def _answer(self, link: Link, number: int) -> None:
        """Send the sum of all metrics to a process that asked. With many questions at once, what is known goes."""

        async def answer() -> None:
            await self._collect()
            link.send(MetricsText(number, self._sum()))

        if len(self._answering) >= METRICS_ROUNDS_MAX:
            link.send(MetricsText(number, self._sum()))
            return
        task = asyncio.create_task(answer(), name="workers-metrics")
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _collect(self) -> None:
        """Ask every process for its metrics; those that are late keep what they said last."""
        self._rounds += 1
        number, loop = self._rounds, asyncio.get_running_loop()
        waiting = []
        for slot in self._slots:
            if slot.is_ready:
                slot.asked[number] = loop.create_future()
                waiting.append(slot.asked[number])
                self._send(slot, GiveMetrics(number))
        if waiting:
            await asyncio.wait(waiting, timeout=METRICS_WAIT_S)
        for slot in self._slots:
            slot.asked.pop(number, None)

    def _sum(self) -> str:
        texts = [self._services.metrics.render(), self._ended_metrics, *(slot.metrics for slot in self._slots)]
        return add_up(text for text in texts if text)
