"""Questions whose answers come in at another process: two processes' parts over one real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from roadbed.server import mcp_questions
from roadbed.server.mcp_questions import NoRelay, Questions, StoredRelay
from roadbed.store.database import Database
from roadbed.store.errors import StoreUnavailable

PATIENCE_S = 30.0
YES = {"result": {"action": "accept", "content": {"approved": True, "note": "my own words"}}}
KEPT = {"result": {"action": "accept", "content": {"approved": True}}}


@pytest.fixture
async def both(dsn: str, database: Database) -> AsyncIterator[tuple[Questions, Questions]]:
    """The questions of two processes."""
    async with await Database.open(dsn, database.schema, max_size=5, application_name="test") as other:
        first, second = Questions(StoredRelay(database)), Questions(StoredRelay(other))
        await first.start()
        await second.start()
        yield first, second
        await first.stop()
        await second.stop()


async def asking(questions: Questions, who: str, wait_s: float = PATIENCE_S) -> tuple[str, asyncio.Task[Any]]:
    """A question that was sent, and the wait for its answer."""
    sent: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def send(question: str) -> None:
        sent.set_result(question)

    task = asyncio.create_task(questions.ask(who, send, wait_s))
    both: set[asyncio.Future[Any]] = {task, sent}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
    return (sent.result() if sent.done() else ""), task


async def test_an_answer_is_handed_over_once_and_without_its_words(
    both: tuple[Questions, Questions], database: Database
) -> None:
    first, second = both
    question, task = await asking(first, "anna")
    assert not await second.answer("berit", question, YES)
    assert not await second.answer("anna", question + "x", YES)
    assert await second.answer("anna", question, YES)
    assert not await second.answer("anna", question, YES)
    assert await asyncio.wait_for(task, PATIENCE_S) == KEPT
    await first.stop()
    assert await database.fetchval("SELECT count(*) FROM mcp_question") == 0


async def test_questions_are_bounded_over_all_processes(
    both: tuple[Questions, Questions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_questions, "WAITING_OF_ONE_MAX", 2)
    monkeypatch.setattr(mcp_questions, "WAITING_MAX", 3)
    tasks = []
    for number, (questions, who, is_sent) in enumerate(
        [(both[0], "anna", True), (both[1], "anna", True), (both[0], "anna", False), (both[1], "berit", True)]
    ):
        question, task = await asking(questions, who)
        tasks.append(task)
        assert bool(question) == is_sent, number
    assert (await asking(both[0], "cleo"))[0] == ""
    for questions in both:
        questions.give_up()
    assert await asyncio.gather(*tasks) == [None] * 4


async def test_a_question_that_is_over_takes_no_answer_and_leaves_no_row(
    both: tuple[Questions, Questions], database: Database
) -> None:
    first, second = both
    await database.execute("INSERT INTO mcp_question (id, principal, expires) VALUES ('old', 'anna', now())")
    assert not await second.answer("anna", "old", YES)
    question, task = await asking(first, "anna", wait_s=0.01)
    assert await asyncio.wait_for(task, PATIENCE_S) is None
    await first.stop()
    assert not await second.answer("anna", question, YES)
    assert await database.fetchval("SELECT count(*) FROM mcp_question") == 0


async def test_an_answer_whose_notification_was_missed_is_found_after_the_gap(
    both: tuple[Questions, Questions], database: Database
) -> None:
    question, task = await asking(both[0], "anna")
    await database.execute("UPDATE mcp_question SET answer = $1", KEPT)  # nobody was told
    await database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"
    )
    assert await asyncio.wait_for(task, PATIENCE_S) == KEPT
    assert question


async def test_a_cancel_reaches_the_process_that_runs_the_call(both: tuple[Questions, Questions]) -> None:
    first, second = both
    stopped, untouched = asyncio.Event(), asyncio.Event()
    with first.running("s:1", stopped.set), first.running("s:2", untouched.set):
        await second.cancel("s:1")
        await asyncio.wait_for(stopped.wait(), PATIENCE_S)
        assert not untouched.is_set()
        await first.cancel("s:2")
        assert untouched.is_set()
    await second.cancel("s:1")  # over: nothing to stop


async def test_an_ended_session_is_over_in_every_process(both: tuple[Questions, Questions], database: Database) -> None:
    first, second = both
    told = asyncio.Event()
    subscription = await database.listen(mcp_questions.CHANNEL, lambda payload: told.set())  # after the first's own
    await second.end_session("s1")
    await asyncio.wait_for(told.wait(), PATIENCE_S)
    await subscription.close()
    assert first.has_ended("s1")
    assert not first.has_ended("s2")
    later = Questions(StoredRelay(database))  # a process that starts afterwards
    await later.start()
    assert later.has_ended("s1")
    await later.stop()


async def test_without_a_database_a_client_is_not_asked() -> None:
    class Away(NoRelay):
        """A relay whose database does not answer."""

        async def open(self, question: str, principal: str, expires_s: float) -> bool:
            raise StoreUnavailable("no connection")

    question, task = await asking(Questions(Away()), "anna")
    assert question == ""
    assert await task is None
