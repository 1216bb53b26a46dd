"""One question over PostgreSQL, SQLite and documents, whose database server is killed or frozen under the statement.

The register is a PostgreSQL server of its own. MCP clients are attached to the same server meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from roadbed.store.embedded_roles import SUPERUSER

from .serving import EXAMPLE, eventually, temporary_folder
from .three_systems import Office, open_office, sources_cited

pytestmark = pytest.mark.services  # two database servers and one of ours

SERVING = """
import asyncio, sys
from pathlib import Path
from roadbed.store.embedded import EmbeddedPostgres

async def serve():
    async with EmbeddedPostgres(Path(sys.argv[1]), settings={"fsync": "off"}) as server:
        database = await server.create_database("register")
        print(database.owner_dsn, database.reader_dsn, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(serve())
"""
BACK_S = 5.0
ASKED_S = 9.0
PLACE = {"municipality": "Granmo"}  # never asked while all is well: no earlier result stands in


class Register:
    """A PostgreSQL server with the example's register, of a process of its own, that can be killed and frozen."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "postgres"
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVING, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self._owner_dsn, self.reader_dsn = self._process.stdout.readline().split()
        asyncio.run(self._fill())

    async def _fill(self) -> None:
        owner = await asyncpg.connect(self._owner_dsn)
        await owner.execute((EXAMPLE / "data" / "appraisals.sql").read_text())
        await owner.close()

    @property
    def pid(self) -> int:
        """The server's process; 0 while there is none."""
        try:
            lines = (self._folder / "data" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return 0
        return int(lines[0]) if len(lines) > 7 and lines[7].strip() == "ready" else 0

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The table of sales held by another session, so that a statement over it waits."""
        with asyncio.Runner() as runner:
            holder = runner.run(self._lock())
            try:
                yield
            finally:
                holder.terminate()

    async def _lock(self) -> Any:
        holder = await asyncpg.connect(self._owner_dsn)
        await holder.execute("BEGIN; LOCK TABLE sales IN ACCESS EXCLUSIVE MODE")
        return holder

    def is_asked(self) -> bool:
        """Whether a statement over the sales waits for the lock just now."""
        return asyncio.run(self._waiting()) > 0

    async def _waiting(self) -> int:
        admin = await asyncpg.connect(
            host=parse_qs(urlsplit(self._owner_dsn).query)["host"][0],
            user=SUPERUSER,
            password=json.loads((self._folder / "passwords.json").read_text())["superuser"],
            database="register",
        )
        sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%price_nok%'"
        try:
            return int(await admin.fetchval(sql))
        finally:
            await admin.close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and to each of its sessions."""
        pid = self.pid
        for process in [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]:
            with suppress(ProcessLookupError):  # a session that ended by itself
                os.kill(process, number)

    def close(self) -> None:
        self._process.communicate(timeout=30)


@pytest.fixture(scope="module")
def register() -> Iterator[Register]:
    with temporary_folder() as folder, closing(Register(folder / "pg")) as made:
        yield made


@pytest.fixture(scope="module")
def office(register: Register) -> Iterator[Office]:
    with open_office(register.reader_dsn) as made:
        yield made


class Asking(threading.Thread):
    """One question on its way."""

    def __init__(self, office: Office, place: str) -> None:
        super().__init__()
        self._office, self._place = office, place
        self.answered: dict[str, Any] = {}
        self.start()

    def run(self) -> None:
        self.answered = self._office.ask(self._place, **{"x-roadbed-deadline-ms": str(int(ASKED_S * 1000))})

    def result(self) -> dict[str, Any]:
        self.join(60)
        assert self.answered, "no answer came"
        return self.answered


def check_partial(office: Office, answered: dict[str, Any]) -> None:
    """Documents and SQLite answer; what is missing is said by name, to the caller and to the model."""
    facts = answered["roadbed"]
    assert facts["rung"] == "partial", facts
    assert any(text.startswith("tool sales_in of appraisals: ") for text in facts["degraded"]), facts["degraded"]
    assert sources_cited(answered) == {"handbook", "profiles"}
    told = office.model.model.chats[-1].json["messages"]
    assert any("source_unavailable" in str(one["content"]) for one in told if one["role"] == "tool"), told


def is_whole(office: Office, place: str) -> bool:
    answered = office.ask(place)
    return answered["roadbed"]["rung"] == "full" and "appraisals" in sources_cited(answered)


async def over_mcp(office: Office, mode: str) -> tuple[Any, Any]:
    """What the SDK's client is told by the tool whose database is away, and by the one beside it."""
    headers = {"authorization": f"Bearer {office.key}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False) as http,
        Client(streamable_http_client(f"{office.server.url}/mcp", http_client=http), mode=mode) as client,
    ):
        assert {"sales_in", "clients_in"} <= {tool.name for tool in (await client.list_tools()).tools}
        return await client.call_tool("sales_in", PLACE), await client.call_tool("clients_in", PLACE)


def test_a_server_killed_under_the_statement_is_named_and_back_within_five_seconds(
    office: Office, register: Register
) -> None:
    assert is_whole(office, "Bruvang")
    pid = register.pid
    with register.locked():
        asking = Asking(office, "Hellvik")
        eventually(register.is_asked, what="the statement")
        register.signal(signal.SIGSTOP)  # so that none of them tells the others of its end
        register.signal(signal.SIGKILL)
        check_partial(office, asking.result())
    eventually(lambda: register.pid not in (0, pid), within_s=30, what="the restart")
    eventually(lambda: is_whole(office, "Hellvik"), within_s=BACK_S, what="a whole answer")


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_a_server_frozen_under_the_statement_is_named_and_back_within_five_seconds(
    office: Office, register: Register, mode: str
) -> None:
    place = "Kvitnes" if mode == "legacy" else "Storsund"
    with register.locked():
        asking = Asking(office, place)
        eventually(register.is_asked, what="the statement")
        register.signal(signal.SIGSTOP)
        try:
            away, beside = asyncio.run(over_mcp(office, mode))
            check_partial(office, asking.result())
        finally:
            register.signal(signal.SIGCONT)
    eventually(lambda: is_whole(office, place), within_s=BACK_S, what="a whole answer")
    assert away.is_error, away
    assert "appraisals" in str(away.content)
    assert not beside.is_error, beside
    assert beside.structured_content["rows"]
