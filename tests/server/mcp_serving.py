"""An MCP server of its own for tests: the deployment's offering over a real toolbox and the real wire, without a
database. What tools are called with and how their calls end is remembered.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import httpx2
from starlette.applications import Starlette

from roadbed.gateway.limits import Pass
from roadbed.kernel.errors import RoadbedError
from roadbed.kernel.label import Label
from roadbed.kernel.principal import Principal
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.trace import Trace
from roadbed.server.admission import Admission
from roadbed.server.mcp import Mcp
from roadbed.server.mcp_entry import Origins, mcp_routes
from roadbed.server.mcp_offering import Workspace
from roadbed.server.mcp_streams import add_mcp
from roadbed.server.running import RunningCalls
from roadbed.testing.mcp_suite import MemoryFollows
from roadbed.tools.toolbox import ToolBox
from roadbed.tools.types import Failed, NeedsApproval, Ok, Outcome, Provenance, Refused, Tool, ToolRequest
from roadbed.wire.hot import HotTable
from roadbed.wire.request import HotRequest
from roadbed.wire.server import bind, make_server

PATIENCE_S = 30.0
VERSION = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
ID = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"], "additionalProperties": False}
ANNA = Principal("anna", "support")
BERIT = Principal("berit", "sales")
PEOPLE = {b"Bearer anna": ANNA, b"Bearer berit": BERIT}


class PlainGuard:
    """Finds nothing, so that results come through as they are."""

    def scan_bytes(self, body: bytes) -> frozenset[str]:
        return frozenset()

    def for_tool(self, text: str, label: Label, *, is_sent: bool, team: str = "") -> Any:
        return SimpleNamespace(text=text, label=label, masked_count=0)

    def region_of(self, team: str) -> str:
        return ""

    def check_label(self, label: Label, sink: str, team: str = "", *, direction: str = "out") -> None:
        """Nothing is kept from anywhere."""

    def lets(self, label: Label, sink: str, team: str = "") -> bool:
        return True


@dataclass
class Calls:
    """What the tools saw. ``stops`` says how calls of the slow tools ended."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    given_up: asyncio.Event = field(default_factory=asyncio.Event)
    stops: list[str] = field(default_factory=list)
    arguments: list[dict[str, Any]] = field(default_factory=list)
    traces: list[Trace] = field(default_factory=list)

    def start_trace(self, app: str, principal: Principal, release: str = "") -> Trace:
        return Trace(app, principal, release)

    def finish(self, trace: Trace, *, status: str = "ok", rung: str = "", error_code: str = "") -> None:
        trace.status, trace.error_code = status, error_code
        self.traces.append(trace)
        self.given_up.set()

    async def one(self, request: ToolRequest) -> Outcome:
        self.arguments.append(dict(request.arguments))
        return Ok({"rows": [[request.arguments["id"], "Oslo"]]}, (Provenance("shop", "orders", 1.0),))

    async def listed(self, request: ToolRequest) -> Outcome:
        return Ok(["a", "b"], is_truncated=True, cursor="2")

    async def refused(self, request: ToolRequest) -> Outcome:
        return Refused("tools.sql_refused", "the column ssn is masked", "ask for another column", "sql")

    async def failed(self, request: ToolRequest) -> Outcome:
        return Failed("sources.away", "shop does not answer", "shop", True, "try again later", 2.0)

    async def broken(self, request: ToolRequest) -> Outcome:
        raise ValueError("a secret of the inside")

    async def slow(self, request: ToolRequest) -> Outcome:
        self.begun.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.stops.append("cancelled")
            raise
        finally:
            self.ended.set()
        self.stops.append("finished")
        return Ok({"done": True})


class WithApprovals(ToolBox):
    """A toolbox in which the tool ``pay`` waits for a person until one approved it."""

    is_approved = False

    async def call(self, name: str, arguments: Mapping[str, Any], **rest: Any) -> Outcome:
        if name == "pay":
            return Ok({"paid": True}) if self.is_approved else NeedsApproval("ap1", {"amount": 5}, "digest", 2e9)
        return await super().call(name, arguments, **rest)


class People:
    """An entry that knows two people, and keeps nothing."""

    def waits_for(self, request: HotRequest) -> None:
        return None

    def admit(self, request: HotRequest) -> tuple[Admission, Pass | None]:
        return self.check(request), None

    def check(self, request: HotRequest) -> Admission:
        found = PEOPLE.get(request.get(b"authorization") or b"")
        if found is None:
            error = RoadbedError("who is it")
            error.http_status = 401  # type: ignore[misc]
            raise error
        return Admission(found, None)

    def challenge(self, error: RoadbedError) -> bytes:
        return b"Bearer"


@dataclass
class Serving:
    """A running server and what its tools saw."""

    url: str
    calls: Calls
    toolbox: WithApprovals
    mcp: Mcp
    client: httpx2.AsyncClient

    async def post(self, body: Any, *, who: str = "anna", **headers: str) -> httpx2.Response:
        """One POST as it is; ``None`` takes a header away."""
        given = {
            "authorization": f"Bearer {who}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.post(self.url, content=raw, headers={k: v for k, v in given.items() if v})

    async def modern(self, method: str, params: Mapping[str, Any] | None = None, **more: Any) -> httpx2.Response:
        """A request of the newest era with the headers that belong to it."""
        body, headers = modern(method, params, more.pop("capabilities", {}), more.pop("meta", {}))
        return await self.post(body, **{**headers, **more})

    async def call(self, name: str, arguments: Mapping[str, Any] | None = None, **more: Any) -> Any:
        """The result of a tool call of the newest era."""
        params = {"name": name, "arguments": dict(arguments or {}), **more.pop("params", {})}
        answer = await self.modern("tools/call", params, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()["result"]


def modern(
    method: str, params: Mapping[str, Any] | None, capabilities: Any, meta: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """A body of the newest era and its headers."""
    given = dict(params or {})
    given["_meta"] = {VERSION: "2026-07-28", CAPABILITIES: capabilities, **meta}
    headers = {"mcp_protocol_version": "2026-07-28", "mcp_method": method}
    name = given.get("uri" if method == "resources/read" else "name")
    if method in ("tools/call", "prompts/get", "resources/read") and isinstance(name, str):
        headers["mcp_name"] = name
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": given}, headers


def tools_of(calls: Calls) -> list[Tool]:
    """The tools of the test server."""
    header = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}

    def tool(name: str, run: Any, **more: Any) -> Tool:
        return Tool(name, f"The tool {name}.", "shop", run, **more)

    return [
        tool("one", calls.one, input_schema=ID, output_schema={"type": "object"}, title="One"),
        tool("listed", calls.listed),
        tool("refused", calls.refused),
        tool("failed", calls.failed),
        tool("broken", calls.broken),
        tool("slow", calls.slow, timeout_s=10.0),
        tool("very_slow", calls.slow, timeout_s=60.0),
        tool("regional", calls.listed, input_schema=header),
        tool("sales_only", calls.listed, visible_to=frozenset({"sales"})),
        tool("pay", calls.one, effect="irreversible"),
        tool("write_slowly", calls.slow, effect="send", timeout_s=10.0),
    ]


@asynccontextmanager
async def mcp_serving(running: RunningCalls | None = None) -> AsyncIterator[Serving]:
    """A running server with nobody's documents."""
    calls = Calls()
    toolbox = WithApprovals(PlainGuard, Metrics(), b"k" * 32)
    toolbox.take(tools_of(calls))
    nothing = cast(Any, None)
    shown = cast(Any, calls), list
    offering = Workspace(toolbox, nothing, nothing, nothing, *shown, console_url="https://x/console")
    offering.follows = MemoryFollows()
    mcp = Mcp(offering, b"s" * 32)
    table = HotTable()
    add_mcp(table, mcp, People(), Origins(), running)
    listener = bind("127.0.0.1", 0)
    server = make_server(Starlette(routes=mcp_routes()), table, listener, handle_signals=False)
    task = asyncio.create_task(server.serve())
    await asyncio.wait_for(server.ready.wait(), PATIENCE_S)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    try:
        async with httpx2.AsyncClient(timeout=PATIENCE_S, trust_env=False) as client:
            yield Serving(url, calls, toolbox, mcp, client)
    finally:
        calls.release.set()
        server.stop()
        server.stop()
        await asyncio.wait_for(task, PATIENCE_S)
        await mcp.close()
        await end_watcher()


async def end_watcher() -> None:
    """The SDK's event streams leave one task per loop, which watches for a server's end until the loop's own."""
    watchers = [task for task in asyncio.all_tasks() if "_shutdown_watcher" in repr(task.get_coro())]
    for task in watchers:
        task.cancel()
    await asyncio.gather(*watchers, return_exceptions=True)
