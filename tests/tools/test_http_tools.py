"""Tools of HTTP APIs against a server on loopback: credentials, effects, paging, repeats, and every bad answer."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.sources.listener import Listener
from tests.stopwatch import Stopwatch
from tests.tools.crm_api import BAD, DOCUMENT, GOOD

from roadbed.guard.gate import Guard
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import ConfigError, RateLimited, RoadbedError
from roadbed.kernel.principal import Principal
from roadbed.ledger.metrics import Metrics
from roadbed.sources.errors import (
    AnswerRefused,
    CredentialsRefused,
    EgressRefused,
    EndUnknown,
    SourceTimeout,
    SourceUnavailable,
)
from roadbed.sources.manifest import HttpAuth, HttpSource
from roadbed.sources.reach import Reach
from roadbed.store.database import Database
from roadbed.tools.approvals import Approvals, effect_key
from roadbed.tools.errors import ApprovalInvalid
from roadbed.tools.manifest import ToolConfig
from roadbed.tools.openapi.request import ArgumentRefused
from roadbed.tools.providers.http import http_tools, tool_name_of
from roadbed.tools.toolbox import ToolBox
from roadbed.tools.types import (
    RESULT_BYTES_MAX,
    TOOL_NAME_PATTERN,
    NeedsApproval,
    Ok,
    Outcome,
    Refused,
    Tool,
    ToolRequest,
)  # fmt: skip

from .conftest import KEY

CALLER = Principal(id="test", team="support")
SECRET = "s3cr3t-value/+"
ADA = {"id": 1, "name": "Ada", "password": "hunter22"}


def answer(status: int, body: Any = None, headers: str = "", media_type: str = "application/json") -> bytes:
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {media_type}\r\ncontent-length: {len(data)}\r\n{headers}\r\n"
    return head.encode() + data


class Api:
    """The API, its source and its tools."""

    def __init__(self, folder: Path, listener: Listener) -> None:
        self.folder = folder
        self.listener = listener
        self.reach = Reach(folder, lookup=self._lookup)

    async def _lookup(self, host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async def tools(self, declared: dict[str, ToolConfig] | None = None, **settings: Any) -> dict[str, Tool]:
        settings = {"operations": GOOD, "private": True, **settings}
        url = f"http://crm.test:{self.listener.port}/v2/"
        sources = {"crm": HttpSource(url=url, openapi="crm.yaml", **settings)}
        await self.reach.use(sources)
        found = http_tools(sources, declared or {}, self.folder, self.reach)
        self.skipped = found.skipped
        return {tool.name: tool for tool in found.tools}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    (tmp_path / "crm.yaml").write_text(DOCUMENT, encoding="utf-8")
    (tmp_path / "key").write_text(SECRET)
    listener = Listener()
    listener.answer = answer(200, ADA)
    await listener.start()
    found = Api(tmp_path, listener)
    yield found
    await found.reach.close()
    await listener.stop()


def request(cursor: str = "", deadline_s: float = 10.0, **arguments: Any) -> ToolRequest:
    return ToolRequest(arguments, CALLER, Deadline.after(deadline_s), cursor)


async def ok(tool: Tool, cursor: str = "", **arguments: Any) -> Ok:
    outcome = await tool.run(request(cursor, **arguments))
    assert isinstance(outcome, Ok), outcome
    return outcome


async def test_a_call_is_sent_as_the_document_says(api: Api) -> None:
    tools = await api.tools(labels=["internal"], visible_to=["support"])
    found = await ok(tools["crm_getCustomer"], path_id="a/b c", query_id="ü")
    assert api.listener.requests[0].startswith(b"GET /v2/customers/a%2Fb%20c?id=%C3%BC HTTP/1.1\r\n")
    assert f"host: crm.test:{api.listener.port}".encode() in api.listener.requests[0]
    assert found.data == {"status": 200, "data": {"id": 1, "name": "Ada"}}  # without what is writeOnly
    assert found.provenance[0].resource == "GET /customers/{id}"
    await ok(tools["crm_listCustomers"], tags=["a", "b"], filter={"city": "Bern"}, page=2)
    assert b"/v2/customers?page=2&tags=a&tags=b&filter%5Bcity%5D=Bern " in api.listener.requests[1]
    assert {tool.visible_to for tool in tools.values()} == {frozenset({"support"})}


async def test_effects_are_the_manifests_and_never_the_apis(api: Api) -> None:
    declared = {
        "find": ToolConfig("crm", "Finds customers.", operation="searchCustomers"),
        "drop": ToolConfig(
            "crm", "Deletes one.", operation="deleteCustomer", effect="irreversible", visible_to=["ops"]
        ),
    }
    tools = await api.tools(declared)
    effects = {name: tool.effect for name, tool in tools.items()}
    assert effects == {
        "crm_listCustomers": "read", "crm_getCustomer": "read", "crm_getText": "read", "crm_createCustomer": "write",
        "crm_sendForm": "write", "find": "write", "drop": "irreversible",
    }  # fmt: skip
    assert tools["drop"].visible_to == frozenset({"ops"})
    assert tools["drop"].description == "Deletes one."
    assert (await api.tools(declared, reads=["searchCustomers"]))["find"].effect == "read"
    assert await api.tools(operations=[]) == {}


async def test_bad_operations_are_named_and_cost_no_other(api: Api) -> None:
    tools = await api.tools(operations=[*GOOD, *BAD])
    assert len(tools) == len(GOOD)
    assert sorted(part.operation for part in api.skipped) == sorted(BAD)
    with pytest.raises(ConfigError):
        await api.tools({"x": ToolConfig("crm", "No operation.")})
    (api.folder / "crm.yaml").unlink()
    with pytest.raises(ConfigError):
        await api.tools()


@pytest.mark.parametrize(
    ("auth", "sent"),
    [
        (HttpAuth(bearer="file:key"), f"authorization: Bearer {SECRET}"),
        (HttpAuth(basic="file:key"), "authorization: Basic czNjcjN0LXZhbHVlLys="),
        (HttpAuth(header="X-Crm-Key", secret="file:key"), f"x-crm-key: {SECRET}"),
        (HttpAuth(query="crm_key", secret="file:key"), "crm_key=s3cr3t-value%2F%2B"),
    ],
    ids=["bearer", "basic", "header", "query"],
)
async def test_credentials_are_added_here_and_never_come_back(api: Api, auth: HttpAuth, sent: str) -> None:
    echo = {"id": 1, "name": f"you sent {SECRET} as s3cr3t-value%2F%2B", "next": "x?crm_key=s3cr3t-value%2F%2B"}
    api.listener.answer = answer(200, echo, f"link: </v2/customers/1?crm_key={SECRET}&page=2>; rel=next\r\n")
    tools = await api.tools(auth=auth)
    found = await ok(tools["crm_getCustomer"], path_id="1")
    assert sent.encode() in api.listener.requests[0]
    assert "s3cr3t" not in repr(found)
    assert "crm_key" not in found.cursor
    (api.folder / "key").write_text("another-value")
    await ok(tools["crm_getCustomer"], path_id="1")
    assert SECRET.encode() not in api.listener.requests[1]  # read again at each call


async def test_a_missing_or_double_credential_is_a_fault_of_the_manifest(api: Api) -> None:
    tools = await api.tools(auth=HttpAuth(bearer="file:nowhere"))
    with pytest.raises(ConfigError):
        await tools["crm_getText"].run(request())
    assert not api.listener.requests
    with pytest.raises(ConfigError):
        await api.tools(auth=HttpAuth(bearer="file:key", basic="file:key"))


async def test_a_private_host_must_be_declared(api: Api) -> None:
    tools = await api.tools(private=False)
    with pytest.raises(EgressRefused):
        await tools["crm_getText"].run(request())
    assert api.listener.connections == 0


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ("link: </v2/customers?page=2&tags=a>; rel=\"next\"\r\n", {}, {"page": "2", "tags": "a"}),
        ("link: <http://crm.test:{port}/v2/customers?page=3>; rel=next, <x>; rel=prev\r\n", {}, {"page": "3"}),
        ("", {"next_page": 4}, {"page": "4"}),
        ("", {"meta": {"pagination": {"next": "/v2/customers?page=5"}}}, {"page": "5"}),
        ("", {"links": {"next": {"href": "?page=6"}}}, {"page": "6"}),
        ("link: <http://evil.test/v2/customers?page=2>; rel=next\r\n", {}, {}),
        ("link: </v2/admin?page=2>; rel=next\r\n", {}, {}),
        ("link: </v2/customers?crm_key=x&admin=1>; rel=next\r\n", {}, {}),
        ("", {"next_page": 4, "has_more": False}, {}),
        ("", {"next_cursor": "abc"}, {}),
        ("link: </v2/customers?page=2>; rel=last\r\n", {}, {}),
    ],
)  # fmt: skip
async def test_what_follows_is_offered_where_it_is_known(
    api: Api, headers: str, body: Any, expected: dict[str, str]
) -> None:
    tools = await api.tools()
    api.listener.answer = answer(200, {"items": [], **body}, headers.replace("{port}", str(api.listener.port)))
    found = await ok(tools["crm_listCustomers"], tags=["z"], page=1)
    assert (json.loads(found.cursor) if found.cursor else {}) == expected
    assert found.is_truncated == bool(expected)
    if expected:
        await ok(tools["crm_listCustomers"], found.cursor, tags=["z"], page=1)
        target = api.listener.requests[1].split(b" ")[1].decode()
        assert all(f"{name}={value}" in target for name, value in expected.items())
        assert "page=1" not in target


@pytest.mark.parametrize("cursor", ['{"crm_key": "x"}', '{"admin": "1"}', "x", "[]", '{"page": 2}'])
async def test_a_made_up_cursor_is_refused(api: Api, cursor: str) -> None:
    tools = await api.tools()
    with pytest.raises(AnswerRefused):
        await tools["crm_listCustomers"].run(request(cursor))
    assert not api.listener.requests


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (answer(200, b"{not json"), AnswerRefused),
        (answer(200, b"\xff\xfe"), AnswerRefused),
        (answer(200, b"[" * 5000 + b"]" * 5000), AnswerRefused),
        (answer(200, [1, 2]), AnswerRefused),
        (answer(200, b"<html>", media_type="text/html"), AnswerRefused),
        (answer(200, b"<a/>", media_type="application/xml"), AnswerRefused),
        (answer(200, b"\x89PNG", media_type="image/png"), AnswerRefused),
        (answer(200, b"x", media_type=""), AnswerRefused),
        (answer(200, gzip.compress(b" " * 9_000_000), "content-encoding: gzip\r\n"), AnswerRefused),
        (answer(302, None, "location: /v2/loop\r\n"), AnswerRefused),
        (answer(302, None, "location: http://169.254.169.254/\r\n"), EgressRefused),
        (answer(500, {"detail": "stack trace"}), SourceUnavailable),
        (answer(401, {"detail": "who?"}), CredentialsRefused),
        (answer(429, None, "retry-after: 60\r\n"), RateLimited),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort", RoadbedError),
        (b"garbage\r\n\r\n", SourceUnavailable),
        (answer(200, {"a": "x" * (RESULT_BYTES_MAX + 100)}), AnswerRefused),
    ],
)
async def test_bad_answers_are_typed_errors(api: Api, reply: bytes, error: type[RoadbedError]) -> None:
    tools = await api.tools(timeout="1s")
    api.listener.answer = reply
    with pytest.raises(error) as raised:
        await tools["crm_getCustomer"].run(request(path_id="1"))
    assert "stack trace" not in raised.value.message


async def test_a_refusal_of_the_api_is_passed_on_cleaned(api: Api) -> None:
    tools = await api.tools()
    said = "no such\u202e customer\x07 " + "x" * 1000
    api.listener.answer = answer(404, {"error": {"message": said}})
    outcome = await tools["crm_getCustomer"].run(request(path_id="1"))
    assert isinstance(outcome, Refused)
    assert outcome.message.startswith("crm refuses the call with status 404: no such customer xxx")
    assert len(outcome.message) < 400
    assert len(api.listener.requests) == 1


async def test_text_and_empty_answers(api: Api) -> None:
    tools = await api.tools()
    api.listener.answer = answer(200, "grüezi".encode(), media_type="text/plain; charset=utf-8")
    assert (await ok(tools["crm_getText"])).data["data"] == "grüezi"
    api.listener.answer = b"HTTP/1.1 204 Gone\r\n\r\n"
    assert (await ok(tools["crm_deleteCustomer"], id="1")).data == {"status": 204, "data": None}


async def test_large_lists_are_cut_to_whole_items(api: Api) -> None:
    tools = await api.tools()
    api.listener.answer = answer(200, {"items": [{"id": n, "name": "x" * 1000} for n in range(1000)], "next_page": 2})
    found = await ok(tools["crm_listCustomers"])
    items = found.data["data"]["items"]
    assert 100 < len(items) < 300
    assert items[-1]["name"] == "x" * 1000
    assert found.is_truncated
    assert found.cursor == ""  # what follows the cut would be skipped
    assert len(json.dumps(found.data, separators=(",", ":"))) <= RESULT_BYTES_MAX


async def test_a_read_is_repeated_once_and_a_write_never(api: Api) -> None:
    tools = await api.tools()
    replies = [answer(503, None, "retry-after: 0\r\n"), answer(200, ADA)]

    async def reply(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(replies.pop(0) if replies else answer(503))

    api.listener.answer = reply
    assert (await ok(tools["crm_getCustomer"], path_id="1")).data["status"] == 200
    assert len(api.listener.requests) == 2
    with pytest.raises(SourceUnavailable):
        await tools["crm_createCustomer"].run(request(body={"name": "Ada"}))
    assert len(api.listener.requests) == 3


async def test_a_write_without_an_answer_is_of_unknown_outcome(api: Api) -> None:
    tools = await api.tools()
    await ok(tools["crm_createCustomer"], body={"name": "Ada"})  # leaves a connection that is kept

    async def hang_up(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    api.listener.answer = hang_up
    with pytest.raises(EndUnknown):
        await tools["crm_createCustomer"].run(request(body={"name": "Ada"}))
    assert len(api.listener.requests) == 2  # also not on the connection that was kept


async def test_a_source_that_fails_rests_and_comes_back(api: Api) -> None:
    tools = await api.tools()
    api.listener.answer = answer(500)
    for _ in range(3):
        with pytest.raises(SourceUnavailable, match="status 500"):
            await tools["crm_getText"].run(request())
    count = len(api.listener.requests)
    with pytest.raises(SourceUnavailable, match="rests") as raised:
        await tools["crm_getText"].run(request())
    assert len(api.listener.requests) == count
    assert raised.value.retry_after_s
    api.listener.answer = answer(200, b"well", media_type="text/plain")
    async with asyncio.timeout(60):
        while True:
            try:
                assert (await ok(tools["crm_getText"])).data["data"] == "well"
                break
            except SourceUnavailable as error:
                await asyncio.sleep(error.retry_after_s or 0.01)


async def test_refused_credentials_open_the_circuit_at_once(api: Api) -> None:
    tools = await api.tools(auth=HttpAuth(bearer="file:key"))
    api.listener.answer = answer(401)
    with pytest.raises(CredentialsRefused):
        await tools["crm_getText"].run(request())
    with pytest.raises(SourceUnavailable, match="rests"):
        await tools["crm_getText"].run(request())
    assert len(api.listener.requests) == 1


async def test_the_rate_of_a_source_is_kept(api: Api) -> None:
    tools = await api.tools(rate="2/h")
    api.listener.answer = answer(200, b"x", media_type="text/plain")
    await ok(tools["crm_getText"])
    await ok(tools["crm_getText"])
    with pytest.raises(RateLimited):
        await tools["crm_getText"].run(request())
    assert len(api.listener.requests) == 2


async def test_a_silent_api_costs_no_more_than_the_callers_time(api: Api) -> None:
    async def silent(head: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    tools = await api.tools()
    api.listener.answer = silent
    watch = Stopwatch()
    with pytest.raises(SourceTimeout):
        await tools["crm_getText"].run(request(deadline_s=0.2))
    assert watch.elapsed_s() < 2.0


async def test_an_endless_body_ends(api: Api) -> None:
    async def endless(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    tools = await api.tools()
    api.listener.answer = endless
    with pytest.raises(AnswerRefused, match="over"):
        await tools["crm_getText"].run(request())


async def test_arguments_that_lead_elsewhere_send_nothing(api: Api) -> None:
    tools = await api.tools()
    for value in ("..", "../admin", "%2e%2e", ""):
        with pytest.raises(ArgumentRefused):
            await tools["crm_getCustomer"].run(request(path_id=value))
    assert api.listener.connections == 0


async def test_a_changed_source_gets_a_new_client(api: Api) -> None:
    await api.tools()
    first = api.reach.http("crm")
    await api.tools()
    assert api.reach.http("crm") is first
    await api.tools(timeout="2s")
    assert api.reach.http("crm") is not first
    with pytest.raises(ConfigError):
        api.reach.http("unknown")


def test_names_of_tools_fit_and_stay() -> None:
    import re

    long = tool_name_of("crm", "operation" * 20)
    assert len(long) == 64
    assert long != tool_name_of("crm", "operation" * 20 + "x")
    for name in ("a b", "a/b", "ä", "x" * 100, "get.customer"):
        assert re.fullmatch(TOOL_NAME_PATTERN, tool_name_of("crm", name))


async def test_a_change_shows_its_request_waits_and_is_sent_once_with_a_key(
    api: Api, database: Database, guard: Guard
) -> None:
    box = ToolBox(lambda: guard, Metrics(), KEY, Approvals(database))
    declared = {"add": ToolConfig("crm", "Adds one.", operation="createCustomer", effect="irreversible")}
    auth = HttpAuth(bearer="file:key")
    box.take(list((await api.tools(declared, auth=auth)).values()))
    body = {"name": "Ada Lovelace"}

    async def call() -> Outcome:
        return await box.call("add", {"body": body}, principal=CALLER, deadline=Deadline.after(10))

    asked = await call()
    assert isinstance(asked, NeedsApproval), asked
    url = f"http://crm.test:{api.listener.port}/v2/customers"
    assert asked.preview == {
        "source": "crm",
        "request": f"POST {url}",
        "headers": {"content-type": "application/json"},
        "body": body,
    }
    assert not api.listener.requests, "a trial sends nothing"
    boss = Principal(id="boss", team="office")
    done = await box.approve(asked.approval_id, boss, Deadline.after(10))
    assert isinstance(done, Ok), done
    key = effect_key(await Approvals(database).find(asked.approval_id))
    assert f"\r\nidempotency-key: {key}\r\n".encode() in api.listener.requests[0]
    assert isinstance(await call(), Ok), "the same call is told what came of it"
    assert len(api.listener.requests) == 1

    waits = await call()
    assert isinstance(waits, NeedsApproval)
    box.take(list((await api.tools(declared, auth=auth, timeout="9s")).values()))
    assert (await call()) == waits
    (api.folder / "crm.yaml").write_text(DOCUMENT.replace("  /customers:", "  /everybody:"), encoding="utf-8")
    box.take(list((await api.tools(declared, auth=auth)).values()))
    with pytest.raises(ApprovalInvalid, match="not the one"):
        await box.approve(waits.approval_id, boss, Deadline.after(10))
    assert len(api.listener.requests) == 1


async def test_reads_have_no_key_and_what_is_sent_has_one_of_its_own(api: Api) -> None:
    declared = {"mail": ToolConfig("crm", "Sends it.", operation="sendForm", effect="send")}
    tools = await api.tools(declared, operations=["getText", "getCustomer"])
    await ok(tools["crm_getCustomer"], path_id="1")
    await ok(tools["mail"], body={"a": "1"})
    await ok(tools["mail"], body={"a": "1"})
    keys = [[line for line in head.split(b"\r\n") if line.startswith(b"idempotency")] for head in api.listener.requests]
    assert [len(found) for found in keys] == [0, 1, 1]
    assert keys[1] != keys[2]
