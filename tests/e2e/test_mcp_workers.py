"""MCP clients of the older versions on a deployment of two processes: what one was asked, follows or takes back may
reach the other.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ElicitResult
from tests.stopwatch import Stopwatch

from .serving import ROOT, ModelThread, environment, eventually, launch, shut, temporary_folder, write_files
from .test_workers import Pair

pytestmark = pytest.mark.services  # a server of its own

NEW = "2025-11-25"
CANCELLED_S = 1.0
CANCELLED_BEST_S = 0.2
TRIES = 3
MANIFEST = """\
name: back
sources:
  pg: {type: postgres, dsn: embedded:town, write_dsn: embedded:town, seed: pg.sql}
  docs: {type: files, path: docs}
collections:
  company: {sources: [docs]}
tools:
  slow: {source: pg, description: d, sql: "SELECT pg_sleep(29)", timeout: 60s}
  running:
    source: pg
    description: d
    sql: >-
      SELECT count(*) FROM pg_stat_activity
      WHERE query LIKE '%pg_sleep(29)%' AND pid <> pg_backend_pid() AND state = 'active'
  cancel_order:
    source: pg
    description: d
    effect: irreversible
    sql: DELETE FROM orders WHERE id = :id
    parameters: {id: {type: integer}}
"""
FILES = {
    "roadbed.yaml": MANIFEST,
    "pg.sql": "CREATE TABLE orders AS SELECT generate_series(1, 50) AS id;",
    "docs/fees.md": "# Fees\n\nA rush order costs 35 % extra.\n",
    "docs/kept.md": "# Keeping\n\nReports are kept for seven years.\n",
}


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with temporary_folder() as folder:
        server = launch(write_files(folder / "back", FILES), folder / "state", "--workers", "2")
        try:
            yield Pair(server, cast(ModelThread, None))
        finally:
            # A standing stream must not hold the server up: it ends well before the 20 s that `stop` waits.
            with server.client() as client, standing(client, opened(client, {})):
                assert server.stop() == 0, server.output


def rpc(method: str, params: Any = None, number: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}}


def headers(session: str = "") -> dict[str, str]:
    given = {"accept": "application/json, text/event-stream", "mcp-protocol-version": NEW}
    return given | ({"mcp-session-id": session} if session else {})


def opened(client: httpx2.Client, capabilities: Any) -> str:
    hello = {"protocolVersion": NEW, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}}
    answer = client.post("/mcp", json=rpc("initialize", hello), headers=headers())
    assert answer.status_code == 200, answer.text
    return str(answer.headers["mcp-session-id"])


def messages(answer: httpx2.Response) -> Iterator[Any]:
    for line in answer.iter_lines():
        if line.startswith("data:") and line[5:].strip():
            yield json.loads(line[5:])


@contextmanager
def standing(client: httpx2.Client, session: str) -> Iterator[Iterator[Any]]:
    """The messages of a session's standing stream."""
    with client.stream("GET", "/mcp", headers={**headers(session), "accept": "text/event-stream"}) as answer:
        assert answer.status_code == 200
        yield messages(answer)


@pytest.mark.parametrize("other", [1, 2])
def test_an_answer_reaches_the_process_that_waits_for_it(pair: Pair, other: int) -> None:
    member, stranger = (pair.server.new_key(team)["key"] for team in ("office", "others"))
    call = rpc("tools/call", {"name": "cancel_order", "arguments": {"id": 6 + other}})
    with pair.client_of(1, member) as first, pair.client_of(other, member) as second:
        session = opened(second, {"elicitation": {}})  # the other process opened it
        with first.stream("POST", "/mcp", json=call, headers=headers(session)) as answer:
            found = messages(answer)
            asked = next(found)
            assert asked["method"] == "elicitation/create"
            approval = asked["params"]["message"].rpartition("#approval-")[2]
            agreed = {"action": "accept", "content": {"approved": True, "note": "my own words"}}
            reply = {"jsonrpc": "2.0", "id": asked["id"], "result": agreed}
            with pair.client_of(other, stranger) as theirs:
                assert theirs.post("/mcp", json=reply, headers=headers()).status_code == 404
            assert pair.server.post(f"/api/tools/approvals/{approval}/approve", {}).json()["outcome"] == "ok"
            assert second.post("/mcp", json=reply, headers=headers(session)).status_code == 202
            assert second.post("/mcp", json=reply, headers=headers(session)).status_code == 404
            assert next(found)["result"]["structuredContent"] == {"rows_changed": 1}


def test_an_answer_without_an_approval_changes_nothing(pair: Pair) -> None:
    call = rpc("tools/call", {"name": "cancel_order", "arguments": {"id": 20}})
    with pair.client_of(1) as first, pair.client_of(2) as second:
        session = opened(first, {"elicitation": {}})
        with first.stream("POST", "/mcp", json=call, headers=headers(session)) as answer:
            found = messages(answer)
            asked = next(found)
            while asked.get("method") == "elicitation/create":
                agreed = {"action": "accept", "content": {"approved": True}}
                reply = {"jsonrpc": "2.0", "id": asked["id"], "result": agreed}
                assert second.post("/mcp", json=reply, headers=headers(session)).status_code == 202
                asked = next(found)
        assert asked["result"]["_meta"]["roadbed/error"]["code"] == "tools.needs_approval"


@pytest.mark.parametrize("how", ["cancelled", "left"])
def test_a_call_that_is_given_up_stops_in_the_database(pair: Pair, how: str) -> None:
    taken = []
    with pair.client_of(2) as second:
        session = opened(second, {})

        def is_running() -> bool:
            found = second.post("/api/tools/running/call", json={}).json()
            return bool(found["data"]["rows"][0][0])

        for number in range(TRIES):
            ended: list[Any] = []
            with pair.client_of(1) as first:
                thread = threading.Thread(target=call_slowly, args=(first, session, number, ended))
                thread.start()
                eventually(is_running, what="the statement")
                watch = Stopwatch()
                if how == "left":
                    ended.append("left")
                    shut(first)
                else:
                    gone = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}
                    assert second.post("/mcp", json=gone, headers=headers(session)).status_code == 202
                eventually(lambda: not is_running(), within_s=CANCELLED_S, what="the end of the statement")
                taken.append(watch.elapsed_s())
                thread.join()
            assert ended[0] == ("left" if how == "left" else -32800)
    print(f"{how}: gone from the database after {', '.join(f'{1000 * found:.0f} ms' for found in taken)}")
    assert min(taken) < CANCELLED_BEST_S, taken


def call_slowly(client: httpx2.Client, session: str, number: int, ended: list[Any]) -> None:
    """Call the slow tool, and note the error that it ends in."""
    try:
        with client.stream(
            "POST", "/mcp", json=rpc("tools/call", {"name": "slow", "arguments": {}}, number), headers=headers(session)
        ) as answer:
            ended.extend(message["error"]["code"] for message in messages(answer))
    except httpx2.HTTPError:
        assert ended == ["left"]


def test_a_changed_document_is_told_on_the_stream_of_its_session(pair: Pair) -> None:
    with pair.client_of(1) as first, pair.client_of(2) as second, pair.server.client() as third:
        session, stranger = opened(first, {}), opened(first, {})
        listed = first.post("/mcp", json=rpc("resources/list"), headers=headers()).json()["result"]["resources"]
        uris = {found["title"]: found["uri"] for found in listed}
        for title in ("Fees", "Keeping"):
            answer = first.post("/mcp", json=rpc("resources/subscribe", {"uri": uris[title]}), headers=headers(session))
            assert answer.json()["result"] == {}, answer.text
        none = first.post(
            "/mcp", json=rpc("resources/subscribe", {"uri": "roadbed://documents/none"}), headers=headers(session)
        )
        assert none.json()["error"]["code"] == -32602
        third.post("/mcp", json=rpc("resources/unsubscribe", {"uri": uris["Keeping"]}), headers=headers(session))
        docs = pair.server.workspace / "docs"
        with standing(second, session) as found, standing(third, stranger) as others:
            (docs / "kept.md").write_text("# Keeping\n\nReports are kept for nine years.\n")
            (docs / "fees.md").write_text("# Fees\n\nA rush order costs 40 % extra.\n")
            told = next(found)
            assert (told["method"], told["params"]) == ("notifications/resources/updated", {"uri": uris["Fees"]})
            read = first.post("/mcp", json=rpc("resources/read", {"uri": uris["Fees"]}), headers=headers(session))
            assert "40 %" in read.json()["result"]["contents"][0]["text"]
            del others
        # What changes while no stream stands is told on the next one, wherever that is.
        (docs / "fees.md").write_text("# Fees\n\nA rush order costs 45 % extra.\n")
        eventually(lambda: "45 %" in text_of(first, uris["Fees"]), what="the new text")
    with pair.client_of(1) as again, standing(again, session) as found:
        assert next(found)["params"] == {"uri": uris["Fees"]}


def text_of(client: httpx2.Client, uri: str) -> str:
    read = client.post("/mcp", json=rpc("resources/read", {"uri": uri}), headers=headers()).json()
    return str(read["result"]["contents"][0]["text"])


def test_the_bridge_passes_questions_answers_and_changes_on(pair: Pair) -> None:
    command = [sys.executable, "-m", "roadbed.cli.main", "mcp", "--stdio", "--state", str(pair.server.state)]
    variables = environment(pair.server.home, {"PYTHONPATH": str(ROOT / "src")})
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables)
    assert program.stdin is not None
    assert program.stdout is not None
    said: Any = (json.loads(line) for line in program.stdout)

    def say(message: dict[str, Any]) -> None:
        program.stdin.write(json.dumps(message).encode() + b"\n")  # type: ignore[union-attr]
        program.stdin.flush()  # type: ignore[union-attr]

    try:
        can: dict[str, Any] = {"elicitation": {}}
        say(
            rpc(
                "initialize", {"protocolVersion": NEW, "capabilities": can, "clientInfo": {"name": "t", "version": "1"}}
            )
        )
        assert next(said)["result"]["capabilities"]["resources"]["subscribe"] is True
        say(rpc("tools/call", {"name": "cancel_order", "arguments": {"id": 30}}, 2))
        asked = next(said)
        assert asked["method"] == "elicitation/create"
        say({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "decline"}})
        assert next(said)["result"]["_meta"]["roadbed/error"]["code"] == "tools.approval_declined"
        say(rpc("resources/list", {}, 3))
        uris = {found["title"]: found["uri"] for found in next(said)["result"]["resources"]}
        say(rpc("resources/subscribe", {"uri": uris["Keeping"]}, 4))
        assert next(said)["result"] == {}
        (pair.server.workspace / "docs" / "kept.md").write_text("# Keeping\n\nReports are kept for ten years.\n")
        assert next(said)["params"] == {"uri": uris["Keeping"]}
    finally:
        program.stdin.close()
        try:
            assert program.wait(60) == 0
        finally:
            program.kill()
            program.stdout.close()


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_the_official_client_asks_its_user_in_both_eras(pair: Pair, mode: str) -> None:
    asked: list[str] = []

    async def ask(context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        approval = params.message.rpartition("#approval-")[2]
        approved = await asyncio.to_thread(pair.server.post, f"/api/tools/approvals/{approval}/approve", {})
        assert approved.json()["outcome"] == "ok", approved.text
        return ElicitResult(action="accept", content={"approved": True})

    key = {"authorization": f"Bearer {pair.server.new_key('office')['key']}"}
    number = 40 + len(mode)
    async with (
        httpx2.AsyncClient(headers=key, timeout=30, trust_env=False) as http,
        Client(
            streamable_http_client(f"{pair.server.url}/mcp", http_client=http), mode=mode, elicitation_callback=ask
        ) as client,
    ):
        done = await client.call_tool("cancel_order", {"id": number})
    assert done.structured_content == {"rows_changed": 1}
    assert len(asked) == 1
