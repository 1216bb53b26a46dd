"""`Pool`: the bounded connections of one source, behind its bulkhead and its breaker.

Connections are made when they are needed, kept while they are good, and closed after `PoolSettings.idle_s`. What kind
they are is a `Driver`'s business. A connection is made and taken back by tasks of the pool, so a caller that leaves
early (deadline, cancellation) neither loses one nor hides from the breaker how it ended. The invariant: every place of
the bulkhead is owned by one caller or one task of the pool, and both give it back.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, Literal, Protocol, TypeVar

from roadbed.kernel import breaker as breakers
from roadbed.kernel.clock import SYSTEM_CLOCK, Clock
from roadbed.kernel.deadline import Deadline
from roadbed.sources.bulkhead import Bulkhead
from roadbed.sources.errors import CredentialsRefused, SourceBusy, SourceTimeout, SourceUnavailable

WAITING_MAX = 64
# Its longest rest (2 s and a fifth) and one probe that hangs (2 s) end within 5 s of the source's return.
BREAKER = breakers.BreakerSettings(failures_in_a_row_max=3, open_s=0.5, open_s_max=2.0, probe_s_max=10.0, recovery=())

C = TypeVar("C")
Tidied = Literal["clean", "spoiled"]


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Bounds of a pool. ``probe_s`` replaces ``connect_s`` while the breaker tries whether the source is back."""

    waiting_max: int = WAITING_MAX
    connect_s: float = 5.0
    probe_s: float = 2.0
    prepare_s: float = 1.0
    return_s: float = 1.0
    idle_s: float = 300.0
    breaker: breakers.BreakerSettings = field(default=BREAKER)


class Driver(Protocol[C]):
    """How connections of one kind are made, readied and closed. Only `SourceUnavailable` counts against the source."""

    async def connect(self) -> C:
        """A new connection. The pool bounds its time by cancelling it."""
        ...

    def is_usable(self, connection: C) -> bool:
        """Whether an idle connection may be handed out, as far as is known without asking."""
        ...

    def prepare_at_once(self, connection: C, deadline: Deadline) -> bool:
        """`prepare` where that asks nobody; False where it must."""
        ...

    async def prepare(self, connection: C, deadline: Deadline) -> None:
        """Ready a connection for reading until the deadline."""
        ...

    def is_tidy(self, connection: C) -> bool:
        """Whether nothing is left to `tidy`, as far as is known without asking."""
        ...

    async def tidy(self, connection: C) -> Tidied:
        """End what the caller left; ``spoiled`` when the connection is not to be used again."""
        ...

    async def close(self, connection: C) -> None:
        """Close a connection, in good order where that takes no time."""
        ...

    def abort(self, connection: C) -> None:
        """Stop what runs on a connection and close it at once."""
        ...


@dataclass(frozen=True, slots=True)
class PoolState:
    """What is known of a pool just now. ``last_failure`` names no credential; ``retry_after_s`` is the breaker's."""

    size: int
    in_use: int
    idle: int
    waiting: int
    phase: breakers.Phase
    retry_after_s: float
    last_failure: str
    last_failure_at: datetime | None


class Pool(Generic[C]):
    """At most ``size`` connections to the source ``name``."""

    def __init__(
        self,
        name: str,
        driver: Driver[C],
        size: int,
        settings: PoolSettings,
        *,
        clock: Clock = SYSTEM_CLOCK,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._name = name
        self._driver = driver
        self._size = size
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._bulkhead = Bulkhead(name, size, settings.waiting_max)
        self._breaker = breakers.CLOSED
        self._idle: dict[int, tuple[C, float]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._leased: dict[int, C] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False
        self._last_failure = ""
        self._last_failure_at: datetime | None = None

    @asynccontextmanager
    async def lease(self, deadline: Deadline) -> AsyncIterator[C]:
        """A readied connection. `SourceUnavailable`, `SourceBusy`, `SourceTimeout`."""
        connection = await self._acquire(deadline)
        failure: SourceUnavailable | None = None
        self._leased[id(connection)] = connection
        try:
            yield connection
        except SourceUnavailable as error:
            failure = None if isinstance(error, SourceBusy) else error
            raise
        finally:
            del self._leased[id(connection)]
            if failure is None and not self._is_closed and self._driver.is_tidy(connection):
                self._report("success")
                self._keep(connection)
                self._bulkhead.leave()
            else:
                await asyncio.shield(self._start(self._take_back(connection, failure), "take back"))

    def state(self) -> PoolState:
        """What is known just now; asks nobody."""
        return PoolState(
            size=self._size,
            in_use=self._bulkhead.in_use,
            idle=len(self._idle),
            waiting=self._bulkhead.waiting,
            phase=self._breaker.phase,
            retry_after_s=self._breaker.retry_after_s(self._clock.monotonic_s()),
            last_failure=self._last_failure,
            last_failure_at=self._last_failure_at,
        )

    async def close(self, drain_s: float) -> None:
        """Hand out no more; wait ``drain_s`` for what is in use, then stop it. Nothing is open afterwards."""
        self._is_closed = True
        self._drop_idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                await self._bulkhead.wait_until_empty()
        for connection in self._leased.values():
            self._driver.abort(connection)
        for task in self._tasks:
            if task.get_name().endswith("connect"):
                task.cancel()
        while self._tasks:  # a task that ends may start the one that takes its connection back
            await asyncio.wait(self._tasks)
            await asyncio.sleep(0)

    # -- getting one --------------------------------------------------------------------------------------------------

    async def _acquire(self, deadline: Deadline) -> C:
        self._check_open()
        now_s = self._clock.monotonic_s()
        if not breakers.is_available(self._breaker, now_s, self._settings.breaker):
            raise self._resting(now_s)  # before the queue: it would only grow
        await self._bulkhead.enter(deadline)
        try:
            self._check_open()
            self._admit()
        except SourceUnavailable:
            self._bulkhead.leave()
            raise
        try:
            connection = await self._idle_connection(deadline)
        except BaseException:
            self._report("ignored")
            self._bulkhead.leave()
            raise
        return await self._new_connection(deadline) if connection is None else connection

    def _check_open(self) -> None:
        if self._is_closed:
            raise SourceUnavailable(f"the source {self._name} was changed or closed", hint="ask again")

    def _admit(self) -> None:
        now_s = self._clock.monotonic_s()
        self._breaker, is_admitted = breakers.admit(self._breaker, now_s, self._chance(), self._settings.breaker)
        if not is_admitted:
            raise self._resting(now_s)

    def _resting(self, now_s: float) -> SourceUnavailable:
        after_s = self._breaker.retry_after_s(now_s)
        when = f"asked again in {after_s:.1f} s" if after_s else "being asked just now whether it is back"
        return SourceUnavailable(
            f"the source {self._name} failed and is {when}: {self._last_failure}", retry_after_s=after_s or None
        )

    async def _idle_connection(self, deadline: Deadline) -> C | None:
        """A readied connection that was idle; None when there is none that still works."""
        while self._idle:
            connection, _ = self._idle.pop(next(reversed(self._idle)))
            is_ready = False
            try:
                if self._driver.is_usable(connection):
                    if not self._driver.prepare_at_once(connection, deadline):
                        async with asyncio.timeout(min(deadline.remaining_s(), self._settings.prepare_s)):
                            await self._driver.prepare(connection, deadline)
                    is_ready = True
                    return connection
            except (SourceUnavailable, TimeoutError):
                if deadline.has_passed():
                    raise SourceTimeout(f"the deadline passed while asking {self._name}") from None
                # The server was started anew or the network forgot us. A new connection tells how things are.
                self._drop_idle()
            finally:
                if not is_ready:
                    self._start(self._driver.close(connection), "close")
        return None

    async def _new_connection(self, deadline: Deadline) -> C:
        """A new connection. Owns the caller's place until it returns one, also when the caller is gone by then."""
        task = self._start(self._connect(deadline), "connect")
        try:
            async with asyncio.timeout(deadline.remaining_s()):
                return await asyncio.shield(task)
        except TimeoutError:
            task.add_done_callback(self._settle)
            raise SourceUnavailable(f"the source {self._name} accepted no connection before the deadline") from None
        except BaseException:
            task.add_done_callback(self._settle)
            raise

    async def _connect(self, deadline: Deadline) -> C:
        is_probe = self._breaker.phase == "half_open"
        limit_s = self._settings.probe_s if is_probe else self._settings.connect_s
        connection: C | None = None
        is_ready = False
        try:
            async with asyncio.timeout(limit_s):
                connection = await self._driver.connect()
                await self._driver.prepare(connection, deadline)
            is_ready = True
        except TimeoutError:
            slow = SourceUnavailable(f"the source {self._name} accepts no connection within {limit_s:g} s")
            self._failed(slow)
            raise slow from None
        except SourceUnavailable as error:
            self._failed(error)
            raise
        except BaseException:
            self._report("ignored")
            raise
        finally:
            if connection is not None and not is_ready:
                self._driver.abort(connection)
        self._report("success")
        return connection

    def _settle(self, task: asyncio.Task[C]) -> None:
        """Put away what a caller did not wait for."""
        if task.cancelled() or task.exception() is not None:
            self._bulkhead.leave()
        else:
            self._start(self._take_back(task.result(), None), "take back")

    # -- taking it back -----------------------------------------------------------------------------------------------

    async def _take_back(self, connection: C, failure: SourceUnavailable | None) -> None:
        """Make a connection ready for the next caller or close it, and tell the breaker."""
        tidied: Tidied = "spoiled"
        is_known = False
        try:
            if failure is None:
                async with asyncio.timeout(self._settings.return_s):
                    tidied = await self._driver.tidy(connection)
            is_known = True
        except SourceUnavailable as error:
            failure = error
        except TimeoutError:
            failure = SourceUnavailable(f"the source {self._name} did not stop a statement")
        finally:
            if failure is None and not is_known:  # a driver's fault: nothing is known of the connection
                self._report("ignored")
                self._driver.abort(connection)
                self._bulkhead.leave()
        try:
            if failure is not None:
                self._failed(failure)
                self._driver.abort(connection)
            elif tidied == "clean" and not self._is_closed:
                self._report("success")
                self._keep(connection)
            else:
                self._report("success")
                await self._driver.close(connection)
        finally:
            self._bulkhead.leave()

    def _keep(self, connection: C) -> None:
        loop = asyncio.get_running_loop()
        self._idle[id(connection)] = (connection, loop.time() + self._settings.idle_s)
        if self._sweep is None:  # one timer for all of them: one for each costs more than the rest of keeping it
            self._sweep = loop.call_later(self._settings.idle_s, self._close_unused)

    def _close_unused(self) -> None:
        """Close what was idle for too long, and look again when the next one will be."""
        loop = asyncio.get_running_loop()
        self._sweep = None
        for key, (_, until_s) in list(self._idle.items()):
            if until_s <= loop.time():
                self._close_idle(key)
        if self._idle:
            self._sweep = loop.call_at(min(until_s for _, until_s in self._idle.values()), self._close_unused)

    def _close_idle(self, key: int) -> None:
        connection, _ = self._idle.pop(key)
        self._start(self._driver.close(connection), "close")

    def _drop_idle(self) -> None:
        for key in list(self._idle):
            self._close_idle(key)
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    # -- what the breaker learns --------------------------------------------------------------------------------------

    def _failed(self, error: SourceUnavailable) -> None:
        self._last_failure = error.message
        self._last_failure_at = datetime.now(UTC)
        # Repeating a refused password locks accounts, so it opens the breaker at once.
        times = self._settings.breaker.failures_in_a_row_max if isinstance(error, CredentialsRefused) else 1
        for _ in range(times):
            self._report("failure")
        if self._breaker.phase == "open":
            self._drop_idle()

    def _report(self, result: breakers.Result) -> None:
        self._breaker = breakers.record(
            self._breaker, result, self._clock.monotonic_s(), self._chance(), self._settings.breaker
        )

    def _start(self, work: Coroutine[Any, Any, Any], doing: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=f"source {self._name}: {doing}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
