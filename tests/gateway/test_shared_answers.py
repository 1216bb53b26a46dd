"""Answers that all processes share, in a real PostgreSQL: found by another process, bounded, nothing personal."""

from __future__ import annotations

from typing import Any

import pytest
from tests.stopwatch import Stopwatch

from roadbed.gateway.cache import CachedAnswer, CacheRule
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.route import Route
from roadbed.gateway.shared_answers import SharedAnswers
from roadbed.gateway.types import Answer, Call, ChatRequest, Outcome
from roadbed.guard.gate import Guard
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.principal import Principal
from roadbed.store.database import Database
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import Reply
from roadbed.wire.client import UpstreamClient

from .conftest import CALLER, MovableClock, ask, endpoint


def table(database: Database, guard: Guard, clock: MovableClock, **bounds: Any) -> SharedAnswers:
    return SharedAnswers(database, lambda: guard, clock.monotonic_s, **bounds)


def made(text: str, clock: MovableClock) -> CachedAnswer:
    return CachedAnswer(text, "", "lab", "m", clock.now_s)


async def test_what_one_process_answered_another_one_gives_again_until_it_is_old(
    database: Database, guard: Guard, clock: MovableClock
) -> None:
    one, other = table(database, guard, clock), table(database, guard, clock)
    one.put(b"key", made("forty euros", clock), 60.0)
    await one.write()
    found = await other.get(b"key", 60.0)
    assert found is not None
    assert (found.text, found.endpoint, found.model) == ("forty euros", "lab", "m")
    assert clock.now_s - 30.0 < found.made_s <= clock.now_s
    assert await other.get(b"another", 60.0) is None
    await database.execute("UPDATE cached_answer SET made = now() - interval '90 seconds'")
    assert await other.get(b"key", 60.0) is None


async def test_personal_data_and_secrets_are_not_stored(database: Database, guard: Guard, clock: MovableClock) -> None:
    shared = table(database, guard, clock)
    for text in ("Write to ann@example.com", "It is AKIAIOSFODNN7ABCDEFG", "half\0"):
        shared.put(text.encode(), made(text, clock), 60.0)
    shared.keeps_content = False
    shared.put(b"off", made("clean", clock), 60.0)
    await shared.write()
    assert await database.fetchval("SELECT count(*) FROM cached_answer") == 0


async def test_what_expired_and_what_is_too_much_goes(database: Database, guard: Guard, clock: MovableClock) -> None:
    shared = table(database, guard, clock, rows_max=3)
    for number in range(6):
        shared.put(bytes([number]), made("x", clock), 60.0)
    await shared.write()
    await database.execute("UPDATE cached_answer SET made = now() - make_interval(secs => get_byte(key, 0))")
    await database.execute("UPDATE cached_answer SET expires = now() WHERE key = $1", b"\x01")
    await shared.sweep()
    left = await database.fetch("SELECT key FROM cached_answer ORDER BY key")
    assert [row["key"] for row in left] == [b"\x00", b"\x02", b"\x03"]
    narrow = table(database, guard, clock, bytes_max=2 * made("x", clock).size_bytes)
    await narrow.sweep()
    assert await database.fetchval("SELECT count(*) FROM cached_answer") == 2


async def test_a_database_that_is_away_holds_up_nobody(database: Database, guard: Guard, clock: MovableClock) -> None:
    shared = table(database, guard, clock)
    shared.put(b"key", made("x", clock), 60.0)
    await shared.write()
    async with database.connection() as connection:
        await connection.execute("BEGIN")
        await connection.execute("LOCK TABLE cached_answer IN ACCESS EXCLUSIVE MODE")
        watch = Stopwatch()
        for _ in range(50):
            assert await shared.get(b"key", 60.0) is None
        assert watch.elapsed_s() < 2.0, "the first one waits its bound, the others do not ask"
        await connection.execute("ROLLBACK")
    clock.now_s += 6.0
    assert await shared.get(b"key", 60.0) is not None


@pytest.fixture
def gateways(
    database: Database, client: UpstreamClient, guard: Guard, clock: MovableClock, first: ScriptedModel
) -> list[Gateway]:
    """Two processes' gateways over one table."""
    route = Route("smart", (endpoint("a", first.url),), cache=CacheRule(exact_s=60.0, release="r1"))
    made = []
    for _ in range(2):
        gateway = Gateway(client, guard, {"smart": route}, clock=clock, chance=lambda: 0.0)
        gateway.cache.table = table(database, guard, clock)
        made.append(gateway)
    return made


async def answer(gateway: Gateway, request: ChatRequest, principal: Principal = CALLER) -> tuple[Answer, Outcome]:
    async with gateway.stream("smart", request, Call(principal, Deadline.after(10.0))) as stream:
        return await stream.answer(), stream.outcome


async def test_a_gateway_asks_the_table_before_the_model(gateways: list[Gateway], first: ScriptedModel) -> None:
    first.script(Rule("", Reply(text="one two")))
    one, other = gateways
    question = ask("What is it?", temperature=0)
    assert (await answer(one, question))[1].rung == "full"
    assert one.cache.table is not None
    await one.cache.table.write()
    given, outcome = await answer(other, question)
    assert (given.text, outcome.rung, outcome.endpoint) == ("one two", "cached", "a")
    assert (await answer(other, question, Principal("key-9", "sales")))[1].rung == "full"
    assert len(first.chats) == 2


async def test_a_request_with_personal_data_stays_in_its_process(
    gateways: list[Gateway], first: ScriptedModel, database: Database
) -> None:
    first.script(Rule("", Reply(text="one two")))
    one, other = gateways
    question = ask("Who is ann@example.com?", temperature=0)
    await answer(one, question)
    assert one.cache.table is not None
    await one.cache.table.write()
    assert await database.fetchval("SELECT count(*) FROM cached_answer") == 0
    assert (await answer(one, question))[1].rung == "cached"
    assert (await answer(other, question))[1].rung == "full"
