"""CPU of one ``tools/call`` over HTTP with 50 tools: Roadbed's ``/mcp`` beside the bare SDK and FastMCP.

    python bench/tools/mcp.py [--calls N] [--peers PYTHON]

Each server runs in a process of its own and answers the same call (one row by its key from a SQLite file) over one
kept connection; the figure is the CPU that its process used, over the calls. ``--peers`` is a Python that has FastMCP;
without it that row is left out. The bare SDK runs stateless with JSON answers under uvicorn, its schemas looked up and
not listed, as Roadbed has them; its tool runs the same statement in the event loop, where Roadbed's goes through the
rules of the toolbox and a thread. The row of ``/api/tools`` is the same tool without MCP.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from roadbed.testing.first_controls import run_controls

TOOLS = 50
ROUNDS = 3
WARM_UP = 300
START_S = 60.0
KEY = "rb-bench-5f1c8e0b7a9d4c21abcd"
ROOT = Path(__file__).resolve().parents[2]
TICKS = os.sysconf("SC_CLK_TCK")
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}

BARE = """
import sqlite3, sys, json
import uvicorn
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.routing import Mount
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
import mcp_types as types
db = sqlite3.connect(sys.argv[1], check_same_thread=False)
schema = {"type": "object", "properties": {"id": {"type": "integer", "minimum": 1}}, "required": ["id"]}
async def tools(ctx, params):
    return types.ListToolsResult(tools=[types.Tool(name=f"order_{i}", description="One order", input_schema=schema)
                                        for i in range(int(sys.argv[3]))])
async def call(ctx, params):
    rows = db.execute("SELECT id, city, total FROM orders WHERE id = ?", (params.arguments["id"],)).fetchall()
    data = {"rows": rows}
    return {"resultType": "complete", "content": [{"type": "text", "text": json.dumps(data)}],
            "structuredContent": data, "isError": False}
server = Server("bare", on_list_tools=tools, on_call_tool=call, get_tool_input_schema=lambda name: schema)
server.middleware.clear()
manager = StreamableHTTPSessionManager(server, stateless=True, json_response=True)
@asynccontextmanager
async def lifespan(app):
    async with manager.run():
        yield
app = Starlette(routes=[Mount("/mcp", app=manager.handle_request)], lifespan=lifespan)
uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""

FAST = """
import sqlite3, sys
from fastmcp import FastMCP
db = sqlite3.connect(sys.argv[1], check_same_thread=False)
mcp = FastMCP("fast")
def make(i):
    def order(id: int) -> dict:
        return {"rows": db.execute("SELECT id, city, total FROM orders WHERE id = ?", (id,)).fetchall()}
    order.__name__ = f"order_{i}"
    return order
for i in range(int(sys.argv[3])):
    mcp.tool(make(i))
mcp.run(transport="http", port=int(sys.argv[2]), stateless_http=True, json_response=True, show_banner=False)
"""


def make_files(folder: Path) -> Path:
    """A SQLite file, and a workspace with tools on it."""
    database = folder / "shop.sqlite"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, city TEXT, total REAL)")
        connection.executemany("INSERT INTO orders VALUES (?, 'Oslo', ?)", [(i, i * 1.5) for i in range(1, 1000)])
    sql = "SELECT id, city, total FROM orders WHERE id = :id"
    tool = {"source": "shop", "description": "One order", "sql": sql, "parameters": {"id": {"type": "integer"}}}
    manifest = {
        "name": "bench",
        "sources": {"shop": {"type": "sqlite", "path": "shop.sqlite"}},
        "tools": {f"order_{number}": tool for number in range(TOOLS)},
    }
    (folder / "roadbed.yaml").write_text(json.dumps(manifest))
    return database


@contextmanager
def running(command: list[str], environment: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server process, stopped afterwards."""
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def body_of(number: int, is_modern: bool) -> bytes:
    """One call."""
    params = {"name": "order_7", "arguments": {"id": number % 900 + 1}, **({"_meta": META} if is_modern else {})}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode()


def headers_of(is_modern: bool) -> dict[str, str]:
    """The headers of a call."""
    found = {
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28" if is_modern else "2025-11-25",
    }
    return found | ({"mcp-method": "tools/call", "mcp-name": "order_7"} if is_modern else {})


def measure(process: subprocess.Popen[bytes], url: str, calls: int, *, is_modern: bool, is_rpc: bool = True) -> float:
    """Microseconds of the process's CPU per call; the best of `ROUNDS`."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    headers = headers_of(is_modern)

    def ask(number: int) -> None:
        plain = json.dumps({"arguments": {"id": number % 900 + 1}}).encode()
        connection.request("POST", parts.path, body_of(number, is_modern) if is_rpc else plain, headers)
        response = connection.getresponse()
        data = response.read()
        if response.status != 200 or b"Oslo" not in data:
            raise RuntimeError(f"status {response.status}: {data[:300]!r}")

    for number in range(WARM_UP):
        ask(number)
    best = float("inf")
    for _ in range(ROUNDS):
        before = cpu_s(process.pid)
        for number in range(calls):
            ask(number)
        best = min(best, (cpu_s(process.pid) - before) / calls * 1e6)
    connection.close()
    return best


def cpu_s(pid: int) -> float:
    """CPU seconds that a process used so far, from the kernel's nanosecond account."""
    return (
        sum(
            int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
            for task in os.listdir(f"/proc/{pid}/task")
        )
        / 1e9
    )


def wait_until_up(process: subprocess.Popen[bytes], url: str) -> None:
    """Wait until something listens."""
    parts = urlsplit(url)
    deadline = time.monotonic() + START_S
    while True:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
            return
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.1)
        finally:
            connection.close()


def tell(label: str, us: float) -> None:
    """Print a figure as soon as it is there."""
    print(f"{label:24} {us:8.0f} us CPU a call", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--peers", help="a Python that has FastMCP")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = make_files(folder)
        ready = folder / "ready.json"
        up = [sys.executable, "-m", "roadbed.cli.main", "up", str(folder), "--port", "0"]
        up += ["--state", str(folder / "state"), "--ready-file", str(ready)]
        variables = {"ROADBED_ADMIN_KEY": KEY, "PYTHONPATH": str(ROOT / "src")}
        with running(up, variables, folder) as process:
            deadline = time.monotonic() + START_S
            while not ready.exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            server = json.loads(ready.read_text())["url"]
            run_controls(server, KEY)
            url = server + "/mcp"
            tell("roadbed 2026-07-28", measure(process, url, arguments.calls, is_modern=True))
            api = url.removesuffix("/mcp") + "/api/tools/order_7/call"
            tell("roadbed /api/tools", measure(process, api, arguments.calls, is_modern=True, is_rpc=False))
            tell("roadbed 2025-11-25", measure(process, url, arguments.calls, is_modern=False))
        peers = [("bare SDK", sys.executable, BARE, True)]
        if arguments.peers:
            peers.append(("FastMCP", arguments.peers, FAST, False))
        for number, (peer, python, program, is_modern) in enumerate(peers):
            address = f"http://127.0.0.1:{18_940 + number}/mcp/" if peer == "bare SDK" else "http://127.0.0.1:18941/mcp"
            port = str(urlsplit(address).port)
            command = [python, "-c", program, str(database), port, str(TOOLS)]
            with running(command, {}, folder) as process:
                wait_until_up(process, address)
                eras = (True, False) if is_modern else (False,)
                for era in eras:
                    label = f"{peer} {'2026-07-28' if era else '2025-11-25'}"
                    at = address.rstrip("/") + ("/" if peer == "bare SDK" else "")
                    tell(label, measure(process, at, arguments.calls, is_modern=era))


if __name__ == "__main__":
    main()
