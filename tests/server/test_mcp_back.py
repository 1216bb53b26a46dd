"""The way back to clients of the older MCP versions: sessions, questions on a call's stream, cancelling, following."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx2
import pytest
from tests.stopwatch import comes_true

from roadbed.server import mcp_questions
from roadbed.server.mcp_approvals import ASKED_TIMES_MAX
from roadbed.server.mcp_streams import STREAMS_OF_ONE_MAX
from roadbed.testing.mcp_suite import MemoryFollows

from .mcp_serving import PATIENCE_S, Serving, mcp_serving
from .test_mcp import LEGACY, events, rpc

NEW, PAY = LEGACY[0], {"name": "pay", "arguments": {"id": 1}}
STOPPED_S = 4.0
"""Well before the tool's own timeout would end it."""
ACCEPTED = {"action": "accept", "content": {"approved": True}}


@pytest.fixture
async def server() -> AsyncIterator[Serving]:
    async with mcp_serving() as serving:
        yield serving


async def opened(server: Serving, capabilities: Any, *, who: str = "anna", version: str = NEW) -> str:
    """The id of a new session."""
    hello = {"protocolVersion": version, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}}
    answer = await server.post(rpc("initialize", hello), who=who)
    assert answer.json()["result"]["protocolVersion"] == version
    return str(answer.headers["mcp-session-id"])


class Stream:
    """An open event stream, read message by message."""

    def __init__(self, answer: httpx2.Response) -> None:
        self.answer = answer
        self.lines = answer.aiter_lines()

    async def next(self) -> Any:
        """The next message."""

        async def found() -> Any:
            async for line in self.lines:
                assert not line.startswith("id:"), "an event with an id would have the client resume"
                if line.startswith("data:") and line[5:].strip():
                    return json.loads(line[5:])
            return None

        return await asyncio.wait_for(found(), PATIENCE_S)


@asynccontextmanager
async def streaming(
    server: Serving, session: str, body: Any = None, *, who: str = "anna", **headers: str
) -> AsyncIterator[Stream]:
    """The stream of a call; without a body, a standing one."""
    given = {
        "authorization": f"Bearer {who}",
        "accept": "text/event-stream" + (", application/json" if body is not None else ""),
        "mcp-protocol-version": NEW,
        "mcp-session-id": session,
        **headers,
    }
    method = "POST" if body is not None else "GET"
    async with server.client.stream(method, server.url, json=body, headers=given) as answer:
        yield Stream(answer)


async def reply(server: Serving, question: Any, result: Any, *, who: str = "anna") -> int:
    """Answer a question with a POST of its own; its status."""
    body = {"jsonrpc": "2.0", "id": question["id"], "result": result}
    return (await server.post(body, who=who, mcp_protocol_version=NEW)).status_code


# -- sessions ---------------------------------------------------------------------------------------------------------


async def test_a_session_is_good_for_its_caller_alone(server: Serving) -> None:
    session = await opened(server, {})
    mine = await server.post(rpc("tools/list"), mcp_protocol_version=NEW, mcp_session_id=session)
    assert mine.status_code == 200
    for who, sent in (("berit", session), ("anna", session[:-6] + "AAAAAA"), ("anna", "x" * 4_000), ("anna", "%")):
        answer = await server.post(rpc("tools/list"), who=who, mcp_protocol_version=NEW, mcp_session_id=sent)
        assert answer.status_code == 404, sent


async def test_the_newest_version_knows_no_sessions(server: Serving) -> None:
    assert (await server.modern("tools/list", mcp_session_id="anything")).status_code == 200


# -- questions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", LEGACY)
async def test_an_approval_is_asked_for_on_the_stream_of_the_call(server: Serving, version: str) -> None:
    session = await opened(server, {"elicitation": {}}, version=version)
    async with streaming(server, session, rpc("tools/call", PAY), **{"mcp-protocol-version": version}) as stream:
        asked = await stream.next()
        assert asked["method"] == "elicitation/create"
        assert "https://x/console/tools#approval-ap1" in asked["params"]["message"]
        assert asked["params"]["requestedSchema"]["required"] == ["approved"]
        assert len(asked["id"]) >= 20
        assert await reply(server, asked, ACCEPTED, who="berit") == 404  # nobody else may answer
        assert await reply(server, {"id": "made-up"}, ACCEPTED) == 404
        server.toolbox.is_approved = True
        assert await reply(server, asked, ACCEPTED) == 202
        assert (await stream.next())["result"]["structuredContent"] == {"paid": True}
        assert await reply(server, asked, ACCEPTED) == 404  # a question takes one answer


async def test_accepting_in_the_client_approves_nothing(server: Serving) -> None:
    session = await opened(server, {"elicitation": {"form": {}}})
    async with streaming(server, session, rpc("tools/call", PAY)) as stream:
        questions = set()
        for _ in range(ASKED_TIMES_MAX):
            asked = await stream.next()
            questions.add(asked["id"])
            assert await reply(server, asked, ACCEPTED) == 202
        result = (await stream.next())["result"]
    assert len(questions) == ASKED_TIMES_MAX
    assert result["isError"] is True
    assert "https://x/console/tools#approval-ap1" in result["content"][0]["text"]


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_who_declines_ends_the_call(server: Serving, action: str) -> None:
    session = await opened(server, {"elicitation": {}})
    async with streaming(server, session, rpc("tools/call", PAY)) as stream:
        assert await reply(server, await stream.next(), {"action": action}) == 202
        result = (await stream.next())["result"]
    assert result["_meta"]["roadbed/error"]["code"] == "tools.approval_declined"


async def test_a_client_that_opens_addresses_is_given_one_once(server: Serving) -> None:
    session = await opened(server, {"elicitation": {"url": {}}})
    async with streaming(server, session, rpc("tools/call", PAY)) as stream:
        asked = await stream.next()
        assert asked["params"] == {
            "mode": "url",
            "message": asked["params"]["message"],
            "url": "https://x/console/tools#approval-ap1",
            "elicitationId": "ap1",
        }
        assert await reply(server, asked, {"action": "accept"}) == 202
        assert (await stream.next())["result"]["_meta"]["roadbed/error"]["code"] == "tools.needs_approval"


@pytest.mark.parametrize("answer", [{"error": {"code": -1, "message": "no"}}, {"result": [1]}, {"result": "yes"}])
async def test_an_answer_that_is_none_leaves_the_consoles_address(server: Serving, answer: Any) -> None:
    session = await opened(server, {"elicitation": {}})
    async with streaming(server, session, rpc("tools/call", PAY)) as stream:
        asked = await stream.next()
        sent = await server.post({"jsonrpc": "2.0", "id": asked["id"], **answer}, mcp_protocol_version=NEW)
        assert sent.status_code == 202
        assert (await stream.next())["result"]["_meta"]["roadbed/error"]["code"] == "tools.needs_approval"


async def test_a_question_ends_with_the_callers_deadline(server: Serving) -> None:
    session = await opened(server, {"elicitation": {}})
    async with streaming(server, session, rpc("tools/call", PAY)) as stream:
        asked = await stream.next()
        server.mcp.begin_end()  # as its deadline would, or a process that is about to end
        over = await stream.next()
        assert (over["method"], over["params"]["requestId"]) == ("notifications/cancelled", asked["id"])
        assert (await stream.next())["result"]["_meta"]["roadbed/error"]["code"] == "tools.needs_approval"
        assert await reply(server, asked, ACCEPTED) == 404


async def test_a_caller_that_leaves_takes_its_question_along(server: Serving) -> None:
    session = await opened(server, {"elicitation": {}})
    async with streaming(server, session, rpc("tools/call", PAY)) as stream:
        asked = await stream.next()
    await asyncio.wait_for(server.calls.given_up.wait(), PATIENCE_S)
    assert await reply(server, asked, ACCEPTED) == 404


async def test_few_questions_of_one_caller_wait_at_once(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_questions, "WAITING_OF_ONE_MAX", 1)
    mine, theirs = await opened(server, {"elicitation": {}}), await opened(server, {"elicitation": {}}, who="berit")
    async with streaming(server, mine, rpc("tools/call", PAY)) as stream:
        assert (await stream.next())["method"] == "elicitation/create"
        async with streaming(server, mine, rpc("tools/call", PAY, 8)) as second:
            assert (await second.next())["result"]["_meta"]["roadbed/error"]["code"] == "tools.needs_approval"
        async with streaming(server, theirs, rpc("tools/call", PAY), who="berit") as other:
            assert (await other.next())["method"] == "elicitation/create"


async def test_an_answer_is_bounded(server: Serving) -> None:
    assert await reply(server, {"id": "x"}, {"content": "y" * mcp_questions.ANSWER_BYTES_MAX}) == 413


async def test_a_client_that_takes_json_alone_is_not_asked(server: Serving) -> None:
    session = await opened(server, {"elicitation": {}})
    headers = {"accept": "application/json", "mcp_protocol_version": NEW, "mcp_session_id": session}
    answer = await server.post(rpc("tools/call", PAY), **headers)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["result"]["_meta"]["roadbed/error"]["code"] == "tools.needs_approval"
    server.calls.release.set()
    slow = rpc("tools/call", {"name": "very_slow", "arguments": {}, "_meta": {"progressToken": "p"}})
    answer = await server.post(slow, **headers)
    assert answer.json()["result"]["structuredContent"] == {"done": True}


# -- cancelling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["slow", "very_slow", "write_slowly"])
async def test_a_call_that_is_taken_back_stops(server: Serving, name: str) -> None:
    session, other = await opened(server, {}), await opened(server, {})
    sent = {"mcp_protocol_version": NEW, "mcp_session_id": session}
    call = asyncio.create_task(server.post(rpc("tools/call", {"name": name, "arguments": {}}, "c1"), **sent))
    await asyncio.wait_for(server.calls.begun.wait(), PATIENCE_S)
    for session_id, number in ((other, "c1"), (session, "c2"), (session, "c1")):
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}
        assert (await server.post(cancel, **{**sent, "mcp_session_id": session_id})).status_code == 202
        if number == "c2":
            assert server.calls.stops == []  # neither another session nor another number stopped it
    answer = await asyncio.wait_for(call, PATIENCE_S)
    body = answer.json() if answer.headers["content-type"] == "application/json" else events(answer.text)[-1]
    assert body["error"]["code"] == -32800
    await comes_true(server.calls.ended.is_set, within_s=STOPPED_S)
    assert server.calls.stops == ["cancelled"]


# -- following --------------------------------------------------------------------------------------------------------


def follows_of(server: Serving) -> MemoryFollows:
    return cast(MemoryFollows, server.mcp.offering.follows)


async def follow(server: Serving, session: str, uri: str, method: str = "resources/subscribe") -> None:
    sent = {"mcp_protocol_version": NEW, "mcp_session_id": session}
    answer = await server.post(rpc(method, {"uri": uri}), **sent)
    assert answer.json()["result"] == {}


async def test_what_a_session_follows_is_told_on_its_stream(server: Serving) -> None:
    session = await opened(server, {})
    for uri in ("a:1", "a:2", "a:3"):
        await follow(server, session, uri)
    await follow(server, session, "a:2", "resources/unsubscribe")
    async with streaming(server, session, **{"last-event-id": "7"}) as stream:
        assert stream.answer.headers["content-type"] == "text/event-stream"
        for uri in ("a:2", "a:1"):
            follows_of(server).touch(uri)
        expected = {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "a:1"}}
        assert await stream.next() == expected
        server.mcp.begin_end()
        assert await stream.next() is None
    sent = {"mcp-session-id": session, "authorization": "Bearer anna", "mcp-protocol-version": NEW}
    assert (await server.client.delete(server.url, headers=sent)).status_code == 204
    after = await server.post(rpc("tools/list"), mcp_protocol_version=NEW, mcp_session_id=session)
    assert after.status_code == 404
    assert (await server.client.delete(server.url, headers=sent)).status_code == 404
    follows_of(server).touch("a:3")
    assert follows_of(server)._followed == {}


async def test_the_capability_is_there_where_it_works(server: Serving) -> None:
    hello = {"protocolVersion": NEW, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    old = (await server.post(rpc("initialize", hello))).json()["result"]["capabilities"]
    assert old["resources"]["subscribe"] is True
    new = (await server.modern("server/discover")).json()["result"]["capabilities"]
    assert not new["resources"].get("subscribe")
    alone = await server.post(rpc("resources/subscribe", {"uri": "a:1"}), mcp_protocol_version=NEW)
    assert alone.json()["error"]["code"] == -32600


async def test_standing_streams_are_few_and_only_for_sessions(server: Serving) -> None:
    session = await opened(server, {})
    sent = {"authorization": "Bearer anna", "accept": "text/event-stream", "mcp-protocol-version": NEW}
    for more, status in (
        ({}, 405),
        ({"mcp-session-id": session, "mcp-protocol-version": "2026-07-28"}, 405),
        ({"mcp-session-id": session + "x"}, 404),
        ({"mcp-session-id": session, "authorization": "Bearer berit"}, 404),
        ({"mcp-session-id": session, "authorization": "Bearer nobody"}, 401),
        ({"mcp-session-id": session, "origin": "https://evil.example"}, 403),
        ({"mcp-session-id": session, "accept": "application/json"}, 406),
    ):
        assert (await server.client.get(server.url, headers={**sent, **more})).status_code == status, more
    async with asyncio.timeout(PATIENCE_S):
        streams = [streaming(server, session) for _ in range(STREAMS_OF_ONE_MAX)]
        for stream in streams:
            await stream.__aenter__()
        full = await server.client.get(server.url, headers={**sent, "mcp-session-id": session})
        assert full.status_code == 429
        assert full.json()["code"] == "mcp.streams_full"
        for stream in streams:
            await stream.__aexit__(None, None, None)
