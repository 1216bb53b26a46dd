"""The address ``/mcp`` by raw bodies: one test per rule of the protocol that clients of each era rely on.

A minor release of the SDK that behaves in another way is seen here.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from .mcp_serving import CAPABILITIES, ID, PATIENCE_S, VERSION, Serving, mcp_serving, modern

LEGACY = ("2025-11-25", "2025-06-18")
HELLO = {"capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


@pytest.fixture
async def server() -> AsyncIterator[Serving]:
    async with mcp_serving() as serving:
        yield serving


def rpc(method: str, params: Any = None, number: Any = 7) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, **({"params": params} if params is not None else {})}


def events(text: str) -> list[Any]:
    """The JSON messages of an event stream."""
    return [json.loads(line[5:]) for line in text.splitlines() if line.startswith("data:") and line[5:].strip()]


# -- 2026-07-28: the request ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_other_methods_than_post_are_405(server: Serving, method: str) -> None:
    answer = await server.client.request(method, server.url, headers={"authorization": "Bearer anna"})
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ([rpc("ping")], -32600),
        ({"jsonrpc": "2.0", "id": 1, "result": {}}, -32600),
        ({"jsonrpc": "2.0", "id": [1], "method": "ping"}, -32600),
        (b"{", -32700),
        (b"[" * 100_000, -32700),
    ],
)
async def test_a_body_that_is_no_single_request_is_400(server: Serving, body: Any, code: int) -> None:
    answer = await server.post(body, mcp_protocol_version="2026-07-28", mcp_method="ping")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code


async def test_a_notification_is_taken(server: Serving) -> None:
    body = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert (await server.post(body, mcp_protocol_version="2026-07-28")).status_code == 202
    assert (await server.post(body, mcp_protocol_version="2025-11-25")).status_code == 202


async def test_json_must_be_accepted(server: Serving) -> None:
    assert (await server.modern("tools/list", accept="text/html")).status_code == 406


@pytest.mark.parametrize("missing", [VERSION, CAPABILITIES])
async def test_meta_names_version_and_capabilities(server: Serving, missing: str) -> None:
    body, headers = modern("tools/list", {}, {}, {})
    del body["params"]["_meta"][missing]
    answer = await server.post(body, **headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == -32602


@pytest.mark.parametrize(
    "headers",
    [
        {"mcp_method": "tools/list"},
        {"mcp_method": ""},
        {"mcp_name": "listed"},
        {"mcp_name": ""},
        {"mcp_name": "=?base64?bGlzdGVk?="},
        {"mcp_name": "=?base64?!!!?="},
    ],
)
async def test_a_header_that_disagrees_with_the_body_is_400(server: Serving, headers: dict[str, str]) -> None:
    body, right = modern("tools/call", {"name": "one", "arguments": {"id": 1}}, {}, {})
    answer = await server.post(body, **{**right, **headers})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == -32020
    assert server.calls.arguments == []


async def test_a_doubled_header_is_400(server: Serving) -> None:
    body, _ = modern("tools/list", {}, {}, {})
    pairs = [("mcp-method", "tools/list"), ("mcp-method", "tools/list"), ("mcp-protocol-version", "2026-07-28")]
    pairs += [("authorization", "Bearer anna"), ("content-type", "application/json"), ("accept", "application/json")]
    answer = await server.client.post(server.url, content=json.dumps(body), headers=pairs)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == -32020


async def test_an_encoded_name_is_decoded(server: Serving) -> None:
    params = {"name": "one", "arguments": {"id": 1}}
    assert (await server.modern("tools/call", params, mcp_name="=?base64?b25l?=")).status_code == 200


@pytest.mark.parametrize(("header", "status"), [("north", 200), ("south", 400), ("", 400)])
async def test_a_mirrored_argument_must_agree(server: Serving, header: str, status: int) -> None:
    params = {"name": "regional", "arguments": {"region": "north"}}
    assert (await server.modern("tools/call", params, mcp_param_region=header)).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://evil.example", 403),
        ("http://127.0.0.1.evil.example", 403),
        ("null", 403),
        ("http://localhost:3000", 200),
        ("http://[::1]:3000", 200),
    ],
)
async def test_pages_of_other_origins_may_not_call(server: Serving, origin: str, status: int) -> None:
    assert (await server.modern("tools/list", origin=origin)).status_code == status


async def test_a_body_over_1_mib_is_refused(server: Serving) -> None:
    answer = await server.post(rpc("tools/call", {"name": "one", "arguments": {"id": "x" * 1024 * 1024}}))
    assert answer.status_code == 413


async def test_who_is_not_known_gets_401(server: Serving) -> None:
    answer = await server.modern("tools/list", who="nobody")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


# -- 2026-07-28: results and errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["server/discover", "tools/list", "resources/list", "resources/templates/list"])
async def test_lists_are_private_and_say_how_long_they_hold(server: Serving, method: str) -> None:
    result = (await server.modern(method)).json()["result"]
    assert (result["resultType"], result["cacheScope"], result["ttlMs"]) == ("complete", "private", 60_000)


async def test_discovery_names_every_era(server: Serving) -> None:
    result = (await server.modern("server/discover")).json()["result"]
    assert result["supportedVersions"] == ["2026-07-28", "2025-11-25", "2025-06-18"]
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "roadbed"


async def test_what_is_not_served_is_declared_nowhere(server: Serving) -> None:
    """The specification asks for streams of changes and for tasks where a server declares them: we declare none."""
    declared = (await server.modern("server/discover")).json()["result"]["capabilities"]
    for part in ("tools", "prompts", "resources"):
        assert not declared[part].get("listChanged")
        assert not declared[part].get("subscribe")
    assert not declared.get("extensions")
    tasks: dict[str, Any] = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
    assert (await server.call("one", {"id": 1}, capabilities=tasks))["resultType"] == "complete"
    for method in ("tasks/get", "tasks/cancel", "tasks/update"):
        answer = await server.modern(method, {"taskId": "x"}, mcp_name="x")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, -32601), method
    answer = await server.modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, -32601)


async def test_an_unknown_version_is_answered_with_those_served(server: Serving) -> None:
    body, headers = modern("tools/list", {}, {}, {VERSION: "2031-01-01"})
    answer = await server.post(body, **{**headers, "mcp_protocol_version": "2031-01-01"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["data"]["requested"]) == (-32022, "2031-01-01")
    assert "2025-11-25" in error["data"]["supported"]


async def test_unknown_methods_are_404_and_initialize_is_one(server: Serving) -> None:
    for method in ("tools/forget", "initialize"):
        answer = await server.modern(method)
        assert answer.status_code == 404, method
        assert answer.json()["error"]["code"] == -32601


async def test_the_list_of_tools_is_the_callers_and_in_order(server: Serving) -> None:
    mine = [tool["name"] for tool in (await server.modern("tools/list")).json()["result"]["tools"]]
    theirs = [tool["name"] for tool in (await server.modern("tools/list", who="berit")).json()["result"]["tools"]]
    assert mine == sorted(mine)
    assert "sales_only" not in mine
    assert "sales_only" in theirs
    entry = (await server.modern("tools/list")).json()["result"]["tools"][mine.index("one")]
    assert (entry["title"], entry["inputSchema"], entry["outputSchema"]) == ("One", ID, {"type": "object"})
    assert entry["annotations"]["readOnlyHint"] is True


async def test_a_result_stands_as_data_and_as_text(server: Serving) -> None:
    result = await server.call("one", {"id": 3})
    assert result["structuredContent"] == {"rows": [[3, "Oslo"]]}
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
    assert result["isError"] is False
    assert result["_meta"]["roadbed/provenance"][0]["source"] == "shop"
    assert server.calls.traces[0].app == "_mcp"
    assert [span.name for span in server.calls.traces[0].spans] == ["tool one"]


async def test_what_was_cut_says_how_to_read_on(server: Serving) -> None:
    result = await server.call("listed")
    assert result["structuredContent"] == {"result": ["a", "b"]}
    cursor = result["_meta"]["roadbed/cursor"]
    assert cursor in result["content"][-1]["text"]
    assert (await server.call("listed", {"cursor": cursor}))["isError"] is False
    assert (await server.call("listed", {"cursor": "made-up"}))["isError"] is True


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("one", {"id": "three"}, "tools.arguments_invalid"),
        ("one", {}, "tools.arguments_invalid"),
        ("refused", {}, "tools.sql_refused"),
        ("failed", {}, "sources.away"),
        ("broken", {}, "tools.broken"),
    ],
)
async def test_what_a_model_can_mend_is_a_result(
    server: Serving, name: str, arguments: dict[str, Any], code: str
) -> None:
    result = await server.call(name, arguments)
    assert result["isError"] is True
    assert result["_meta"]["roadbed/error"]["code"] == code
    assert "secret of the inside" not in json.dumps(result)
    assert server.calls.traces[0].error_code == code


@pytest.mark.parametrize("name", ["no_such", "sales_only", "on"])
async def test_an_unknown_tool_is_a_protocol_error(server: Serving, name: str) -> None:
    answer = await server.modern("tools/call", {"name": name, "arguments": {}})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == -32602


async def test_an_unknown_resource_is_a_protocol_error(server: Serving) -> None:
    for uri in ("roadbed://documents/../x", "file:///etc/passwd", "roadbed://documents/"):
        answer = await server.modern("resources/read", {"uri": uri})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == -32602


async def test_a_cursor_that_is_none_is_a_protocol_error(server: Serving) -> None:
    assert (await server.modern("tools/list", {"cursor": "%%%"})).json()["error"]["code"] == -32602


async def test_progress_comes_before_the_result(server: Serving) -> None:
    server.calls.release.set()
    params = {"name": "slow", "arguments": {}}
    answer = await server.modern("tools/call", params, meta={"progressToken": "p"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"
    first, last = events(answer.text)[0], events(answer.text)[-1]
    assert (first["method"], first["params"]["progressToken"]) == ("notifications/progress", "p")
    assert last["result"]["structuredContent"] == {"done": True}


# -- leaving is the cancel --------------------------------------------------------------------------------------------


async def leave(server: Serving, body: Any, headers: dict[str, str]) -> float:
    """Send a request, close its connection once the tool runs, and say how long the call outlived it."""
    data = json.dumps(body).encode()
    given = {"authorization": "Bearer anna", "content-type": "application/json", "host": "x"}
    given |= {"accept": "application/json, text/event-stream", "content-length": str(len(data))}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    _, writer = await asyncio.open_connection("127.0.0.1", int(server.url.split(":")[2].split("/")[0]))
    writer.write(f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + data)
    await asyncio.wait_for(server.calls.begun.wait(), PATIENCE_S)
    left = time.perf_counter()
    writer.close()
    await asyncio.wait_for(server.calls.ended.wait(), PATIENCE_S)
    return time.perf_counter() - left


@pytest.mark.parametrize("name", ["slow", "very_slow", "write_slowly"])
async def test_a_client_that_leaves_cancels_its_call(server: Serving, name: str) -> None:
    body, headers = modern("tools/call", {"name": name, "arguments": {}}, {}, {})
    await leave(server, body, headers)
    assert server.calls.stops == ["cancelled"]


@pytest.mark.parametrize("name", ["slow", "very_slow"])
async def test_in_the_older_eras_too_as_nobody_could_fetch_the_result(server: Serving, name: str) -> None:
    body = rpc("tools/call", {"name": name, "arguments": {}})
    await leave(server, body, {"mcp_protocol_version": "2025-11-25"})
    assert server.calls.stops == ["cancelled"]


async def test_but_what_changes_something_goes_on_to_its_end_there(server: Serving) -> None:
    body = rpc("tools/call", {"name": "write_slowly", "arguments": {}})
    leaving = asyncio.create_task(leave(server, body, {"mcp_protocol_version": "2025-11-25"}))
    await asyncio.wait_for(server.calls.begun.wait(), PATIENCE_S)
    await asyncio.wait_for(server.calls.given_up.wait(), PATIENCE_S)
    server.calls.release.set()
    await leaving
    assert server.calls.stops == ["finished"]


# -- the older eras ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", LEGACY)
async def test_the_older_eras_open_with_a_session_that_nobody_keeps(server: Serving, version: str) -> None:
    answer = await server.post(rpc("initialize", {"protocolVersion": version, **HELLO}))
    assert answer.status_code == 200
    assert answer.json()["result"]["protocolVersion"] == version
    assert len(answer.headers["mcp-session-id"]) < 200


@pytest.mark.parametrize("version", LEGACY)
async def test_each_of_their_requests_stands_alone(server: Serving, version: str) -> None:
    listed = await server.post(rpc("tools/list"), mcp_protocol_version=version)
    assert "one" in [tool["name"] for tool in listed.json()["result"]["tools"]]
    called = await server.post(rpc("tools/call", {"name": "one", "arguments": {"id": 1}}), mcp_protocol_version=version)
    result = called.json()["result"]
    assert result["structuredContent"] == {"rows": [[1, "Oslo"]]}
    assert "resultType" not in result
    wrong = await server.post(rpc("tools/call", {"name": "one", "arguments": {}}), mcp_protocol_version=version)
    assert wrong.json()["result"]["isError"] is True


async def test_an_old_call_that_may_last_gets_a_stream(server: Serving) -> None:
    server.calls.release.set()
    body = rpc("tools/call", {"name": "very_slow", "arguments": {}})
    answer = await server.post(body, mcp_protocol_version="2025-11-25")
    assert events(answer.text)[-1]["result"]["structuredContent"] == {"done": True}


# -- approvals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("capability", "mode"), [({"url": {}}, "url"), ({}, "form"), ({"form": {}}, "form")])
async def test_a_client_that_can_ask_is_asked_and_calls_again(
    server: Serving, capability: dict[str, Any], mode: str
) -> None:
    can = {"elicitation": capability}
    first = await server.call("pay", {"id": 1}, capabilities=can)
    assert first["resultType"] == "input_required"
    asked = first["inputRequests"]["approval"]["params"]
    assert asked["mode"] == mode
    assert "https://x/console/tools#approval-ap1" in asked["message"]
    assert "ap1" not in first["requestState"]
    again = {"requestState": first["requestState"], "inputResponses": {"approval": {"action": "accept"}}}
    waiting = await server.call("pay", {"id": 1}, capabilities=can, params=again)
    assert waiting["resultType"] == "input_required"  # accepting over MCP approves nothing
    server.toolbox.is_approved = True
    assert (await server.call("pay", {"id": 1}, capabilities=can, params=again))["structuredContent"] == {"paid": True}


async def test_a_state_is_good_for_its_caller_and_arguments_alone(server: Serving) -> None:
    can: dict[str, Any] = {"elicitation": {}}
    state = (await server.call("pay", {"id": 1}, capabilities=can))["requestState"]
    tries: list[tuple[str, dict[str, Any], str]] = [
        ("berit", {"id": 1}, state),
        ("anna", {"id": 2}, state),
        ("anna", {"id": 1}, state[:-4] + "AAAA"),
        ("anna", {"id": 1}, "ap1"),
    ]
    for who, arguments, sent in tries:
        params = {"name": "pay", "arguments": arguments, "requestState": sent}
        answer = await server.modern("tools/call", params, capabilities=can, who=who)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == -32602


async def test_who_declines_is_not_asked_again(server: Serving) -> None:
    params = {"inputResponses": {"approval": {"action": "decline"}}}
    result = await server.call("pay", {"id": 1}, capabilities={"elicitation": {}}, params=params)
    assert result["_meta"]["roadbed/error"]["code"] == "tools.approval_declined"


async def test_a_client_that_cannot_ask_gets_the_consoles_address(server: Serving) -> None:
    for result in (
        await server.call("pay", {"id": 1}),
        (await server.post(rpc("tools/call", {"name": "pay", "arguments": {"id": 1}}))).json()["result"],
    ):
        assert result["isError"] is True
        assert "https://x/console/tools#approval-ap1" in result["content"][0]["text"]
        assert '"amount":5' in result["content"][1]["text"]


async def test_nothing_is_loaded_before_the_first_request(server: Serving) -> None:
    assert not server.mcp.is_loaded
    await server.modern("tools/list")
    assert server.mcp.is_loaded


async def test_it_is_loaded_without_a_request_once_the_process_is_ready_and_idle(server: Serving) -> None:
    ready, idle, waits = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def is_idle() -> None:
        waits.set()
        await idle.wait()

    server.mcp.load_soon(ready, is_idle)
    await server.client.get(server.url)  # another request than one that needs it
    assert not waits.is_set()
    ready.set()
    await waits.wait()
    assert not server.mcp.is_loaded
    idle.set()
    async with asyncio.timeout(PATIENCE_S * 3):
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "mcp-load"))
    assert server.mcp.is_loaded


async def test_a_process_that_ends_first_does_not_wait_for_an_idle_moment(server: Serving) -> None:
    ready = asyncio.Event()
    server.mcp.load_soon(ready, asyncio.Event().wait)  # type: ignore[arg-type]
    ready.set()
    await server.mcp.close()
    assert not server.mcp.is_loaded
    assert "mcp-load" not in {task.get_name() for task in asyncio.all_tasks()}
