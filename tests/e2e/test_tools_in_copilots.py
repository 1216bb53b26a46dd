"""The example's copilot with tools: one answer from PostgreSQL, SQLite and documents, and with a source away.

The manifest, prompts, databases and one of the documents are the example's own; the model is scripted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from roadbed.store.embedded_roles import SUPERUSER, owner_role

from .serving import Server, eventually
from .three_systems import QUESTION, Office, open_office, sources_cited

pytestmark = pytest.mark.services  # whole servers: too long for `make test`


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    with open_office() as made:
        yield made


def test_one_answer_from_three_systems(office: Office) -> None:
    answered = office.ask("Bruvang")
    facts = answered["roadbed"]
    assert (facts["rung"], facts["degraded"]) == ("full", []), facts
    assert sources_cited(answered) == {"handbook", "appraisals", "profiles"}
    assert facts["supported"] == facts["sentences"] >= 3
    rows = {one["source"]: one for one in facts["citations"] if "tool" in one}
    sale = rows["appraisals"]
    assert sale["tool"] == "sales_in"
    assert "FROM sales" in sale["statement"]
    price = next(cell["value"] for cell in sale["cells"] if cell["name"] == "price_nok")
    assert f"{int(price):,}" in answered["choices"][0]["message"]["content"]
    assert sale["quote"].startswith("price_nok") or "price_nok" in sale["quote"]
    marks = answered["choices"][0]["message"]["annotations"]
    assert any(mark["url_citation"]["title"].startswith("appraisals: sales_in") for mark in marks)
    with office.server.client() as client:
        path = f"/api/traces/{facts['trace']}"
        eventually(lambda: client.get(path).status_code == 200, what="the trace")
        spans = {span["name"] for span in client.get(path).json()["spans"]}
    assert {"tools, round 1", "tool sales_in", "tool clients_in"} <= spans


async def stop_appraisals(server: Server, *, is_hung: bool) -> asyncpg.Connection:
    """Hang the database behind a lock, or kill it: no connection lives on, and none is let in."""
    passwords = json.loads((server.state / "postgres" / "passwords.json").read_text())
    lines = (server.state / "postgres" / "data" / "postmaster.pid").read_text().splitlines()
    if is_hung:
        role, password, name = owner_role("appraisals"), passwords["databases"]["appraisals"]["owner"], "appraisals"
    else:
        role, password, name = SUPERUSER, passwords["superuser"], "postgres"
    connection = await asyncpg.connect(host=lines[4], user=role, password=password, database=name)
    if is_hung:
        await connection.execute("BEGIN; LOCK TABLE sales IN ACCESS EXCLUSIVE MODE")
    else:
        await connection.execute("ALTER DATABASE appraisals WITH ALLOW_CONNECTIONS false")
        await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'appraisals'")
    return connection


async def ask_while_away(office: Office, place: str, *, is_hung: bool) -> dict[str, Any]:
    """The answer while the database is away, which is back afterwards."""
    connection = await stop_appraisals(office.server, is_hung=is_hung)
    try:
        return await asyncio.to_thread(office.ask, place, **{"x-roadbed-deadline-ms": "9000"})
    finally:
        if not is_hung:
            await connection.execute("ALTER DATABASE appraisals WITH ALLOW_CONNECTIONS true")
        await connection.close()


@pytest.mark.parametrize(("place", "is_hung"), [("Hellvik", True), ("Kvitnes", False)], ids=["hung", "killed"])
def test_a_source_that_is_away_is_named_and_the_others_answer(office: Office, place: str, is_hung: bool) -> None:
    answered = asyncio.run(ask_while_away(office, place, is_hung=is_hung))
    facts = answered["roadbed"]
    assert facts["rung"] == "partial", facts
    assert any(text.startswith("tool sales_in of appraisals: ") for text in facts["degraded"]), facts["degraded"]
    assert sources_cited(answered) == {"handbook", "profiles"}


def test_an_earlier_result_is_cited_with_its_age(office: Office) -> None:
    office.ask("Storsund")
    answered = asyncio.run(ask_while_away(office, "Storsund", is_hung=False))
    facts = answered["roadbed"]
    assert sources_cited(answered) == {"handbook", "appraisals", "profiles"}
    assert next(one for one in facts["citations"] if one.get("tool") == "sales_in")["age_s"] > 0
    assert facts["rung"] == "partial", facts
    assert any("sales_in of appraisals: away" in text for text in facts["degraded"]), facts["degraded"]


def test_the_callers_own_tools_are_not_passed_on_and_said_to_be_dropped(office: Office) -> None:
    own = [{"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}]
    body = {"model": "helpdesk", "messages": [{"role": "user", "content": QUESTION.format("Bruvang")}], "tools": own}
    with office.server.client(office.key) as client:
        response = client.post("/v1/chat/completions", json=body)
    assert response.headers["x-roadbed-dropped"] == "tools"
    sent = office.model.model.chats[-1].json.get("tools", [])
    assert "mine" not in {tool["function"]["name"] for tool in sent}


def test_the_command_line_shows_rows(office: Office, tmp_path: Path) -> None:
    asked = office.server.cli(
        "ask", QUESTION.format("Bruvang"), "--app", "helpdesk", variables={"ROADBED_KEY": office.key}
    )
    assert "appraisals: sales_in" in asked.stdout, asked.stderr
    assert "(tool sales_in)" in asked.stdout
