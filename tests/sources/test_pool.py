"""The pool over a driver of the test: whatever happens in whatever order, places and connections are not lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roadbed.kernel import breaker as breakers
from roadbed.kernel.deadline import Deadline
from roadbed.sources.bulkhead import Bulkhead
from roadbed.sources.errors import SourceTimeout, SourceUnavailable
from roadbed.sources.pool import BREAKER, Pool, PoolSettings, Tidied

from .conftest import until

NEVER_OPEN = replace(BREAKER, failures_in_a_row_max=10_000, results_min=10_000)
Outcome = Literal["ok", "fails", "hangs", "breaks"]
Step = tuple[Literal["ask", "end", "break", "cancel", "turn"], int]


class Connection:
    """A connection of the test."""

    is_open = True


class ScriptedDriver:
    """Connects and tidies as its script says."""

    def __init__(self, connects: list[Outcome], tidies: list[Tidied | Outcome], *, is_quick: bool = False) -> None:
        self._connects = connects
        self._is_quick = is_quick
        self._tidies = tidies
        self.opened: list[Connection] = []
        self.open_max = 0

    async def connect(self) -> Connection:
        match self._connects.pop() if self._connects else "ok":
            case "fails":
                raise SourceUnavailable("away")
            case "hangs":
                await asyncio.Event().wait()
        connection = Connection()
        self.opened.append(connection)
        self.open_max = max(self.open_max, sum(known.is_open for known in self.opened))
        return connection

    def is_usable(self, connection: Connection) -> bool:
        return connection.is_open

    def prepare_at_once(self, connection: Connection, deadline: Deadline) -> bool:
        return self._is_quick

    async def prepare(self, connection: Connection, deadline: Deadline) -> None:
        await asyncio.sleep(0)

    def is_tidy(self, connection: Connection) -> bool:
        return self._is_quick and not self._tidies

    async def tidy(self, connection: Connection) -> Tidied:
        match self._tidies.pop() if self._tidies else "clean":
            case "fails":
                raise SourceUnavailable("lost")
            case "hangs":
                await asyncio.Event().wait()
            case "breaks":
                raise LookupError("a fault of the driver")
            case "spoiled":
                return "spoiled"
        return "clean"

    async def close(self, connection: Connection) -> None:
        connection.is_open = False

    def abort(self, connection: Connection) -> None:
        connection.is_open = False


async def ask(pool: Pool[Connection], end: asyncio.Future[None], deadline: Deadline) -> None:
    async with pool.lease(deadline) as connection:
        assert connection.is_open
        await end


async def play(driver: ScriptedDriver, size: int, steps: list[Step]) -> None:
    """Callers come, end, break and are cancelled; then everything is closed and nothing may be left."""
    pool = Pool("db", driver, size, PoolSettings(connect_s=0.002, return_s=0.002, waiting_max=3, breaker=NEVER_OPEN))
    callers: list[tuple[asyncio.Task[None], asyncio.Future[None]]] = []
    loop = asyncio.get_running_loop()
    for action, number in steps:
        if action == "ask":
            end: asyncio.Future[None] = loop.create_future()
            deadline = Deadline.after((0.0, 0.001, 10.0)[number % 3])
            callers.append((asyncio.create_task(ask(pool, end, deadline)), end))
        elif action == "turn":
            await asyncio.sleep(0)
        elif callers:
            task, end = callers[number % len(callers)]
            if action == "cancel":
                task.cancel()
            elif not end.done():
                end.set_result(None) if action == "end" else end.set_exception(SourceUnavailable("broke off"))
                end.exception() if action == "break" else None  # a caller who left never looks at it
        state = pool.state()
        assert state.in_use <= size
        assert state.waiting <= 3 + size
    for _, end in callers:
        if not end.done():
            end.set_result(None)
    for task, _ in callers:
        with suppress(SourceUnavailable, SourceTimeout, asyncio.CancelledError, RuntimeError, LookupError):
            await task
    if callers:
        with suppress(SourceUnavailable, LookupError):  # all places are free again, unless the script goes on to fail
            await ask(pool, _done(loop), Deadline.after(10.0))
    await pool.close(1.0)
    assert (pool.state().in_use, pool.state().idle, pool.state().waiting) == (0, 0, 0)
    assert not any(connection.is_open for connection in driver.opened)
    assert driver.open_max <= size
    assert asyncio.all_tasks() == {asyncio.current_task()}


def _done(loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    done: asyncio.Future[None] = loop.create_future()
    done.set_result(None)
    return done


@settings(max_examples=150)
@given(
    st.integers(1, 3),
    st.lists(st.sampled_from(["ok", "ok", "fails", "hangs"]), max_size=8),
    st.lists(st.sampled_from(["clean", "spoiled", "fails", "hangs", "breaks"]), max_size=8),
    st.booleans(),
    st.lists(
        st.tuples(st.sampled_from(["ask", "ask", "end", "break", "cancel", "turn", "turn"]), st.integers(0, 9)),
        max_size=40,
    ),
)
def test_places_and_connections_are_never_lost(
    size: int, connects: list[Outcome], tidies: list[Tidied | Outcome], is_quick: bool, steps: list[Step]
) -> None:
    asyncio.run(play(ScriptedDriver(connects, tidies, is_quick=is_quick), size, steps))


async def test_a_fault_of_the_driver_closes_the_connection_and_gives_the_place_back() -> None:
    driver = ScriptedDriver([], ["breaks"])
    pool = Pool("db", driver, 1, PoolSettings())
    with pytest.raises(LookupError):
        async with pool.lease(Deadline.after(5)):
            pass
    assert not driver.opened[0].is_open
    assert (pool.state().in_use, pool.state().idle) == (0, 0)
    async with pool.lease(Deadline.after(5)) as connection:
        assert connection is driver.opened[1]
    await pool.close(1.0)


async def test_what_is_idle_for_too_long_is_closed_one_after_the_other() -> None:
    driver = ScriptedDriver([], [], is_quick=True)
    pool = Pool("db", driver, 2, PoolSettings(idle_s=0.05))
    async with pool.lease(Deadline.after(5)), pool.lease(Deadline.after(5)):
        pass
    assert pool.state().idle == 2
    async with asyncio.timeout(60):
        while any(known.is_open for known in driver.opened):  # noqa: ASYNC110 - the pool's own timer does it
            await asyncio.sleep(0.01)
    assert pool.state().idle == 0
    await pool.close(1.0)


async def test_idle_connections_are_closed_after_their_time() -> None:
    driver = ScriptedDriver([], [])
    pool = Pool("db", driver, 2, PoolSettings(idle_s=0.0))
    async with pool.lease(Deadline.after(10)):
        pass

    async def is_closed() -> bool:
        return not driver.opened[0].is_open

    await until(is_closed)
    assert pool.state().idle == 0
    await pool.close(1.0)


async def test_a_probe_is_one_at_a_time_and_its_success_closes_the_breaker() -> None:
    driver = ScriptedDriver(["hangs", "fails", "fails", "fails"], [])
    quick = replace(BREAKER, open_s=0.0, open_s_max=0.0)
    pool = Pool("db", driver, 4, PoolSettings(connect_s=30.0, probe_s=30.0, breaker=quick))
    for _ in range(3):
        with suppress(SourceUnavailable):
            await ask(pool, _done(asyncio.get_running_loop()), Deadline.after(10))
    probe = asyncio.create_task(ask(pool, _done(asyncio.get_running_loop()), Deadline.after(10)))

    async def is_probing() -> bool:
        return pool.state().phase == "half_open"

    await until(is_probing)
    refused = ""
    try:
        await ask(pool, _done(asyncio.get_running_loop()), Deadline.after(10))
    except SourceUnavailable as error:
        refused = error.message
    assert "whether it is back" in refused
    probe.cancel()
    await pool.close(0.0)
    with suppress(asyncio.CancelledError, SourceUnavailable):
        await probe
    pool = Pool("db", ScriptedDriver(["fails", "fails", "fails"], []), 4, PoolSettings(breaker=quick))
    for _ in range(4):
        with suppress(SourceUnavailable):
            await ask(pool, _done(asyncio.get_running_loop()), Deadline.after(10))
    await ask(pool, _done(asyncio.get_running_loop()), Deadline.after(10))
    assert pool.state().phase == "closed"
    await pool.close(0.0)


@given(st.lists(st.floats(0, 0.999), min_size=1, max_size=40))
def test_a_source_that_is_back_is_asked_within_five_seconds(chances: list[float]) -> None:
    breaker, now_s = breakers.CLOSED, 0.0
    for chance in chances:
        breaker, is_admitted = breakers.admit(breaker, now_s, chance, BREAKER)
        assert is_admitted
        breaker = breakers.record(breaker, "failure", now_s, chance, BREAKER)
        rest_s = breaker.retry_after_s(now_s)
        assert rest_s + PoolSettings().probe_s < 5.0
        now_s += rest_s
    breaker, _ = breakers.admit(breaker, now_s, 0.999, BREAKER)
    breaker = breakers.record(breaker, "success", now_s, 0.5, BREAKER)
    assert all(breakers.admit(breaker, now_s, chance, BREAKER)[1] for chance in chances), "all callers at once"


async def test_places_are_given_first_come_first_served() -> None:
    bulkhead = Bulkhead("db", 1, 8)
    await bulkhead.enter(Deadline.after(10))
    served: list[int] = []

    async def wait(number: int) -> None:
        await bulkhead.enter(Deadline.after(10))
        served.append(number)
        bulkhead.leave()

    tasks = [asyncio.create_task(wait(number)) for number in range(5)]

    async def all_wait() -> bool:
        return bulkhead.waiting == 5

    await until(all_wait)
    tasks[1].cancel()
    bulkhead.leave()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert served == [0, 2, 3, 4]
    await bulkhead.wait_until_empty()
