"""The circuit around a source without connections: failures let it rest, also for those who queued before."""

from __future__ import annotations

import asyncio

import pytest

from roadbed.kernel.breaker import BreakerSettings
from roadbed.kernel.deadline import Deadline
from roadbed.sources.circuit import Circuit
from roadbed.sources.errors import QueryRefused, SourceUnavailable

ONE = BreakerSettings(failures_in_a_row_max=1, open_s=60.0)


async def test_who_queued_before_the_failure_is_not_let_through_after_it() -> None:
    circuit = Circuit("crm", 1, settings=ONE)
    asked: list[str] = []
    release = asyncio.Event()

    async def failing() -> None:
        async with circuit.admitted(Deadline.after(5)):
            await release.wait()
            raise SourceUnavailable("away")

    async def queued() -> None:
        async with circuit.admitted(Deadline.after(5)):
            asked.append("queued")

    tasks = [asyncio.create_task(failing()), asyncio.create_task(queued())]
    await asyncio.sleep(0)
    release.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in found] == [SourceUnavailable, SourceUnavailable]
    assert "rests" in str(found[1])
    assert not asked


async def test_errors_of_callers_say_nothing_of_the_source() -> None:
    circuit = Circuit("crm", 1, settings=ONE)
    for _ in range(3):
        with pytest.raises(QueryRefused):
            async with circuit.admitted(Deadline.after(5)):
                raise QueryRefused("no")
    async with circuit.admitted(Deadline.after(5)):
        assert circuit.breaker.phase == "closed"
