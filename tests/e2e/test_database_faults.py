"""PostgreSQL and the parent killed with -9, while documents are read and while questions are answered."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from .conftest import Desk
from .serving import ADMIN_KEY, Server, eventually, launch, write_files

pytestmark = pytest.mark.services  # whole servers: too long for `make test`

DOCUMENTS = 80
CLIENTS = 4
RECOVERY_S = 10.0


def many_documents(folder: Path) -> Path:
    return write_files(
        folder,
        {
            f"part-{number // 20}/note-{number:03}.md": f"# Note {number}\n\nThe locker number {number} holds the "
            f"keys of house {number * 7}.\n\n" + f"Paragraph about house {number * 7} and its garden. " * 20
            for number in range(DOCUMENTS)
        },
    )


def indexed(server: Server) -> int:
    """How many documents the index holds so far; 0 while nobody answers."""
    try:
        with server.client() as client:
            response = client.get("/api/sources")
            return sum(row["indexed"] for row in response.json()) if response.status_code == 200 else 0
    except httpx2.HTTPError:
        return 0


def start_ingesting(workspace: Path, state: Path) -> Server:
    """A server that has read some documents, not all."""
    server = launch(workspace, state, wait=False)
    found = state / "run" / "cli.json"
    try:
        eventually(found.exists, within_s=30, what="the server")
        server.ready = json.loads(found.read_text())
        eventually(lambda: indexed(server) > 0, what="the first documents")
        assert indexed(server) < DOCUMENTS, "nothing was left to interrupt"
    except BaseException:
        server.kill()
        raise
    return server


async def assert_whole(server: Server) -> None:
    """Every document is there once, with its chunks once, and can be found."""
    rows = server.get("/api/sources")
    assert [(row["indexed"], row["failed"], row["pending"]) for row in rows] == [(DOCUMENTS, 0, 0)]
    connection = await asyncpg.connect(server.database_dsn())
    try:
        await connection.execute("SET search_path TO roadbed_many")
        documents = await connection.fetchval("SELECT count(DISTINCT key) FROM document WHERE version IS NOT NULL")
        doubles = await connection.fetch(
            "SELECT document_id, start_at, count(*) FROM chunk GROUP BY generation, document_id, start_at"
            " HAVING count(*) > 1"
        )
        without = await connection.fetchval(
            "SELECT count(*) FROM document d WHERE NOT EXISTS (SELECT FROM chunk c WHERE c.document_id = d.id)"
        )
    finally:
        await connection.close()
    assert (documents, doubles, without) == (DOCUMENTS, [], 0)
    for number in (3, 47, DOCUMENTS - 1):
        assert f"locker number {number} holds" in str(server.ask(f"What does locker number {number} hold?", "copilot"))


async def test_ingest_resumes_after_postgresql_was_killed(scratch: Path) -> None:
    server = start_ingesting(many_documents(scratch / "many"), scratch / "state")
    try:
        os.kill(server.postmaster(), signal.SIGKILL)
        server.wait_ready()
        await assert_whole(server)
    finally:
        assert server.stop() == 0, server.output
    assert "Traceback" not in server.output


async def test_ingest_resumes_after_the_parent_was_killed(scratch: Path) -> None:
    server = start_ingesting(many_documents(scratch / "many"), scratch / "state")
    server.kill()
    again = launch(scratch / "many", scratch / "state")
    try:
        await assert_whole(again)
    finally:
        assert again.stop() == 0


async def test_every_request_gets_an_answer_or_a_typed_error_while_postgresql_is_killed(desk: Desk) -> None:
    """Four clients ask all the time; each answer is whole or an error with a code, and soon all are whole again."""
    server = desk.server
    statuses: list[int] = []
    is_over = False

    async def ask(client: httpx2.AsyncClient) -> int:
        body = {"model": "helpdesk", "messages": [{"role": "user", "content": "What does a rush order cost?"}]}
        response = await client.post("/v1/chat/completions", json=body)
        answer: dict[str, Any] = response.json()
        if response.status_code == 200:
            assert "35 %" in answer["choices"][0]["message"]["content"]
            assert answer["roadbed"]["rung"] in ("full", "partial", "extractive")
        else:
            assert response.status_code in (503, 504), answer
            assert answer["error"]["code"] not in ("", "internal")
        return response.status_code

    async def keep_asking(client: httpx2.AsyncClient) -> None:
        while not is_over:
            statuses.append(await ask(client))

    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    async with httpx2.AsyncClient(base_url=server.url, headers=headers, trust_env=False, timeout=30) as client:
        tasks = [asyncio.create_task(keep_asking(client)) for _ in range(CLIENTS)]
        try:
            await until(lambda: len(statuses) > 2 * CLIENTS)
            killed = server.postmaster()
            os.kill(killed, signal.SIGKILL)
            await until(lambda: _postmaster_or(server, killed) != killed)
            asked = len(statuses)
            await until(lambda: statuses[asked:].count(200) > 4 * CLIENTS and set(statuses[-2 * CLIENTS :]) == {200})
        finally:
            is_over = True
            await asyncio.gather(*tasks)
        assert (await client.get("/readyz")).json()["ready"]
    await _assert_each_trace_is_there_once(server, statuses)


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(RECOVERY_S):
        while not check():  # noqa: ASYNC110 - another process has no event here
            await asyncio.sleep(0.02)


def _postmaster_or(server: Server, other: int) -> int:
    try:
        return server.postmaster()
    except (OSError, IndexError, ValueError):
        return other


async def _assert_each_trace_is_there_once(server: Server, statuses: list[int]) -> None:
    """What was recorded while PostgreSQL was away went to the spool, and from there into the table, once."""
    connection = await asyncpg.connect(server.database_dsn())
    try:
        await connection.execute("SET search_path TO roadbed_desk")
        sql = "SELECT count(*), count(DISTINCT id) FROM trace WHERE app = 'helpdesk'"

        async def counts() -> tuple[int, int]:
            row = await connection.fetchrow(sql)
            return int(row[0]), int(row[1])

        async with asyncio.timeout(RECOVERY_S):
            while (await counts())[0] < len(statuses):  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.05)
        every, distinct = await counts()
        unpaid = await connection.fetchval(
            "SELECT count(*) FROM trace t WHERE app = 'helpdesk' AND rung = 'full' AND "
            "(SELECT count(*) FROM usage u WHERE u.trace_id = t.id) <> 1"
        )
    finally:
        await connection.close()
    assert every == distinct
    assert every >= len(statuses)
    assert unpaid == 0, "each whole answer has its one line of usage, whenever it was given"


async def test_deleting_and_adding_goes_on_after_the_database_came_back(desk: Desk) -> None:
    server = desk.server
    path = server.workspace / "open" / "lockers.md"
    before = server.postmaster()
    os.kill(before, signal.SIGKILL)
    path.write_text("# Lockers\n\nThe lockers stand in the cellar.\n")

    def says() -> bool:
        body = {"model": "modelless", "messages": [{"role": "user", "content": "Where do the lockers stand?"}]}
        response = server.post("/v1/chat/completions", body)
        return response.status_code == 200 and "cellar" in response.text

    try:
        eventually(says, within_s=20, what="the document that was added meanwhile")
    finally:
        path.unlink()
    eventually(lambda: not says(), within_s=20, what="its deletion")


NO_ROOM = """
    CREATE FUNCTION roadbed_desk.no_room() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
    CREATE TRIGGER no_room BEFORE UPDATE ON roadbed_desk.document FOR EACH ROW
        EXECUTE FUNCTION roadbed_desk.no_room();
"""


async def test_jobs_that_wait_for_the_disk_are_said_where_people_look(desk: Desk) -> None:
    server, path = desk.server, desk.server.workspace / "open" / "late.md"
    connection = await asyncpg.connect(server.database_dsn())

    def parts() -> str:
        return str(server.get("/readyz")["parts"]["jobs"])

    try:
        await connection.execute(NO_ROOM)
        path.write_text("# Late\n\nThe kettle is late.\n")
        eventually(lambda: "disk of the database is full" in parts(), what="the word of it")
        assert server.get("/readyz")["ready"] is True
        with server.client() as client:
            assert "roadbed_jobs_waiting_for_disk 1" in client.get("/metrics").text
        assert "free some disk space" in server.cli("doctor").stdout
    finally:
        await connection.execute("DROP FUNCTION roadbed_desk.no_room() CASCADE")
        await connection.close()
        path.unlink(missing_ok=True)
    eventually(lambda: parts() == "ok", within_s=40.0, what="room again")
