"""Sources that know their callers: what an API and an MCP server are shown of whom, and of whom nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.sources.listener import Listener
from tests.tools.crm_api import DOCUMENT

from roadbed.guard.credentials import Subject
from roadbed.guard.gate import Guard
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.principal import Principal
from roadbed.kernel.secrets import Secret
from roadbed.ledger.metrics import Metrics
from roadbed.sources.caller_auth import CallerAuths
from roadbed.sources.caller_errors import (
    CallerCredentialMissing,
    CallerCredentialRefused,
    CallerNotExchangeable,
    CallerNotTaken,
)
from roadbed.sources.caller_manifest import CallerAuth, TokenExchange
from roadbed.sources.manifest import HttpAuth, HttpSource, McpSource
from roadbed.sources.reach import Reach
from roadbed.store.database import Database
from roadbed.tools.approvals import Approvals
from roadbed.tools.providers.http import http_tools
from roadbed.tools.toolbox import ToolBox
from roadbed.tools.types import NeedsApproval, Ok, Outcome, Refused, Tool, ToolRequest
from roadbed.tools.upstreams.upstream import Upstreams, upstream_tools

from .little_servers import ADD, ECHO, little_server
from .test_upstream import lock_of

ANNA = Principal("token-anna", "support", shown=Secret("anna.came.with"))
BERT = Principal("token-bert", "support", shown=Secret("bert.came.with"))
KEY = Principal("key-x", "support")
ACCESS = "urn:ietf:params:oauth:token-type:access_token"


class Noted:
    """What callers left here, in memory."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], str] = {}
        self.waiting: dict[tuple[str, str], tuple[str, Secret]] = {}

    async def credential(self, principal: Principal, source: str) -> Secret | None:
        value = self.stored.get((principal.id, source))
        return Secret(value) if value is not None else None

    async def subject(self, principal: Principal) -> Subject | None:
        return Subject(principal.id, principal.shown) if principal.shown is not None else None

    async def hold(self, principal: Principal, source: str, exchange: str, token: Secret) -> None:
        self.waiting[principal.id, source] = (exchange, token)

    async def held(self, principal: Principal, source: str, exchange: str) -> Secret | None:
        got_by, token = self.waiting.get((principal.id, source), ("", None))
        return token if got_by == exchange else None

    async def let_go(self, source: str) -> None:
        self.waiting = {key: held for key, held in self.waiting.items() if key[1] != source}


class Town:
    """An API and a token endpoint on one port: what they were sent, and what the API answers."""

    def __init__(self, folder: Path, listener: Listener) -> None:
        self.folder = folder
        self.listener = listener
        self.vault = Noted()
        self.callers = CallerAuths(folder, self.vault, lookup=self._lookup)
        self.reach = Reach(folder, lookup=self._lookup, callers=self.callers)
        self.heads: list[str] = []
        self.status = 200
        self.gave = 0
        listener.answer = self._answer

    async def _lookup(self, host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async def _answer(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        text = head.decode("latin-1")
        if text.startswith("POST /token"):
            self.gave += 1
            found: Any = {"access_token": f"given-token-{self.gave}", "issued_token_type": ACCESS}
            data, status = json.dumps({**found, "token_type": "Bearer", "expires_in": 300}).encode(), 200
        else:
            self.heads.append(text.lower())
            data, status = json.dumps({"id": 1, "echo": text}).encode(), self.status
        answer = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n"
        writer.write(answer.encode() + f"content-length: {len(data)}\r\n\r\n".encode() + data)
        await writer.drain()
        raise ConnectionError

    def exchange(self) -> CallerAuth:
        url = f"http://sts.test:{self.listener.port}/token"
        return CallerAuth(exchange=TokenExchange(url=url, audience="crm", private=True))

    async def tools(self, caller_auth: CallerAuth, **settings: Any) -> dict[str, Tool]:
        url = f"http://crm.test:{self.listener.port}/v2"
        operations = ["getCustomer", "deleteCustomer", "listCustomers"]
        source = HttpSource(
            url=url, openapi="crm.yaml", private=True, operations=operations, caller_auth=caller_auth, **settings
        )
        await self.reach.use({"crm": source})
        await self.callers.use({"crm": caller_auth})
        return {tool.name: tool for tool in http_tools({"crm": source}, {}, self.folder, self.reach).tools}

    def shown(self) -> list[str]:
        """The credentials that the API was shown."""
        lines = [line for head in self.heads for line in head.split("\r\n")]
        return [line.partition(": ")[2] for line in lines if line.startswith("authorization:")]


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    (tmp_path / "crm.yaml").write_text(DOCUMENT, encoding="utf-8")
    (tmp_path / "key").write_text("ours")
    listener = Listener()
    await listener.start()
    found = Town(tmp_path, listener)
    yield found
    await found.reach.close()
    await found.callers.close()
    await listener.stop()


def request(principal: Principal, **arguments: Any) -> ToolRequest:
    return ToolRequest(arguments or {"path_id": "1"}, principal, Deadline.after(5))


# -- an API ------------------------------------------------------------------------------------------------------------


async def test_each_caller_is_shown_by_a_token_that_was_exchanged_and_never_by_their_own(town: Town) -> None:
    get = (await town.tools(town.exchange()))["crm_getCustomer"]
    for caller in (ANNA, BERT, ANNA, BERT):
        outcome = await get.run(request(caller))
        assert isinstance(outcome, Ok)
        assert "given-token" not in str(outcome.data)  # what an API repeats of it is taken out
    assert town.shown() == [f"bearer given-token-{number}" for number in (1, 2, 1, 2)]
    assert "came.with" not in "".join(town.heads)
    with pytest.raises(CallerNotExchangeable) as refused:
        await get.run(request(KEY))
    assert "access token" in refused.value.hint
    assert len(town.heads) == 4


@pytest.mark.parametrize(
    ("way", "name", "header", "value"),
    [
        ("bearer", "", "authorization", "bearer annas-own-key"),
        ("basic", "", "authorization", "basic yw5uyxmtb3duq=="),
        ("header", "X-Key", "x-key", "annas-own-key"),
        ("query", "key", "", ""),
    ],
)
async def test_a_stored_credential_is_shown_for_its_owner_alone(
    town: Town, way: Any, name: str, header: str, value: str
) -> None:
    get = (await town.tools(CallerAuth(stored=way, name=name)))["crm_getCustomer"]
    town.vault.stored["token-anna", "crm"] = "annas-own-key"
    assert isinstance(await get.run(request(ANNA)), Ok)
    if header and way != "basic":
        assert f"{header}: {value}" in town.heads[0]
    elif not header:
        assert "?key=annas-own-key " in town.heads[0]
    for other in (BERT, KEY, Principal("token-anna:as:support", "support")):
        with pytest.raises(CallerCredentialMissing) as missing:
            await get.run(request(other))
        assert "roadbed source credential set crm" in missing.value.hint
    assert len(town.heads) == 1
    assert "came.with" not in "".join(town.heads)


async def test_a_refused_caller_is_no_failure_of_the_api(town: Town) -> None:
    tools = await town.tools(town.exchange())
    get = tools["crm_getCustomer"]
    town.status = 401
    for _ in range(8):
        with pytest.raises(CallerCredentialRefused):
            await get.run(request(ANNA))
    assert town.gave == 8  # none that was refused is used again
    town.status = 200
    assert isinstance(await get.run(request(BERT)), Ok)
    get = (await town.tools(CallerAuth(stored="bearer")))["crm_getCustomer"]
    town.vault.stored["token-anna", "crm"] = "revoked-over-there"
    town.status = 401
    with pytest.raises(CallerCredentialRefused) as refused:
        await get.run(request(ANNA))
    assert "roadbed source credential set crm" in refused.value.hint


async def test_a_call_that_waits_for_a_person_runs_later_as_its_asker(town: Town) -> None:
    delete = (await town.tools(town.exchange()))["crm_deleteCustomer"]
    assert delete.preview is not None
    with pytest.raises(CallerNotTaken):  # before anybody is asked
        await delete.preview(request(KEY))
    await delete.preview(request(ANNA, id="1"))
    later = replace(ANNA, shown=None)  # as an approval knows the asker
    assert isinstance(await delete.run(request(later, id="1")), Ok)
    assert town.shown() == ["bearer given-token-1"]
    with pytest.raises(CallerNotExchangeable):
        await delete.run(request(replace(BERT, shown=None), id="1"))
    await town.callers.use({})
    with pytest.raises(CallerNotExchangeable):
        await delete.run(request(later, id="1"))


async def test_a_call_that_was_approved_runs_in_whichever_process(town: Town) -> None:
    await (await town.tools(town.exchange()))["crm_deleteCustomer"].preview(request(ANNA, id="1"))  # type: ignore[misc]
    later, first = request(replace(ANNA, shown=None), id="1"), town.callers
    town.callers = CallerAuths(town.folder, town.vault, lookup=town._lookup)  # as of another process
    town.reach = Reach(town.folder, lookup=town._lookup, callers=town.callers)
    assert isinstance(await (await town.tools(town.exchange()))["crm_deleteCustomer"].run(later), Ok)
    assert town.shown() == ["bearer given-token-1"]
    auth = town.exchange()
    assert auth.exchange is not None
    other = CallerAuth(exchange=msgspec.structs.replace(auth.exchange, audience="another"))
    with pytest.raises(CallerNotExchangeable):  # what was got for one audience is shown to no other
        await (await town.tools(other))["crm_deleteCustomer"].run(later)
    await first.close()


async def test_a_change_that_was_refused_for_its_caller_is_known_not_to_have_been_made(
    town: Town, guard: Guard, database: Database
) -> None:
    tools = await town.tools(CallerAuth(stored="bearer"))
    town.vault.stored["token-anna", "crm"] = "revoked-over-there"
    toolbox = ToolBox(lambda: guard, Metrics(), b"k" * 32, Approvals(database))
    toolbox.take(tools.values())

    async def call() -> Outcome:
        return await toolbox.call("crm_deleteCustomer", {"id": "1"}, principal=ANNA, deadline=Deadline.after(5))

    waits = await call()
    assert isinstance(waits, NeedsApproval)
    town.status = 401
    await toolbox.approve(waits.approval_id, Principal("boss", "admin"), Deadline.after(5))
    told = await call()
    assert isinstance(told, Refused)  # and not that its end is unknown
    assert told.code == "sources.caller_credential_refused"


async def test_a_source_shows_itself_or_its_callers(town: Town) -> None:
    with pytest.raises(ConfigError):
        await town.tools(CallerAuth(stored="bearer"), auth=HttpAuth(bearer="file:key"))
    tools = await town.tools(CallerAuth(stored="header", name="X-Trace"))
    assert "X-Trace" not in str(tools["crm_listCustomers"].input_schema)  # no argument may take its place


# -- an MCP server -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_calls_of_an_mcp_server_show_who_calls_and_its_list_shows_us(town: Town, era: str) -> None:
    async with little_server(era=era) as server:
        auth = town.exchange()
        source = McpSource(url=server.url, key="file:key", caller_auth=auth)
        lock = lock_of([ECHO, ADD])
        upstreams = Upstreams(town.folder, callers=town.callers)
        await town.callers.use({"crm": auth})
        upstreams.use({"crm": source}, lock)
        echo = {tool.name: tool for tool in upstream_tools({"crm": source}, lock, upstreams)}["crm_echo"]
        try:
            for caller in (ANNA, BERT):
                assert isinstance(await echo.run(request(caller, text="hei")), Ok)
            with pytest.raises(CallerNotExchangeable):
                await echo.run(request(KEY, text="hei"))
        finally:
            await upstreams.close()
        shown = [(asked.method, asked.headers.get("authorization")) for asked in server.asked]
        assert [value for method, value in shown if method == "tools/call"] == [
            "Bearer given-token-1",
            "Bearer given-token-2",
        ]
        assert {value for method, value in shown if method == "tools/list"} == {"Bearer ours"}
        assert "came.with" not in str([asked.headers for asked in server.asked])


async def test_an_mcp_server_that_refuses_one_caller_is_asked_for_the_others(town: Town) -> None:
    async with little_server() as server:
        auth = CallerAuth(stored="header", name="X-Key")
        source, lock = McpSource(url=server.url, caller_auth=auth), lock_of([ECHO, ADD])
        upstreams = Upstreams(town.folder, callers=town.callers)
        upstreams.use({"crm": source}, lock)
        echo = {tool.name: tool for tool in upstream_tools({"crm": source}, lock, upstreams)}["crm_echo"]
        town.vault.stored = {("token-anna", "crm"): "hei-from-anna", ("token-bert", "crm"): "of-bert"}
        try:
            told = await echo.run(request(ANNA, text="she said hei-from-anna"))
            assert isinstance(told, Ok)
            assert told.data == {"said": "she said ***"}  # what a server repeats of it is taken out
            for server.status in (401, 403, 401, 403, 401):
                with pytest.raises(CallerCredentialRefused):
                    await echo.run(request(ANNA, text="hei"))
            server.status = 200
            assert isinstance(await echo.run(request(BERT, text="hei")), Ok)
        finally:
            await upstreams.close()
        assert [asked.headers.get("x-key") for asked in server.asked if asked.method == "tools/call"][:1] == [
            "hei-from-anna"
        ]


def test_a_program_of_this_machine_is_told_nobody(tmp_path: Path) -> None:
    source = McpSource(command=["x"], caller_auth=CallerAuth(stored="bearer"))
    with pytest.raises(ConfigError):
        Upstreams(tmp_path).use({"crm": source}, lock_of([ECHO]))
