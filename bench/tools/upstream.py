"""What one call of another MCP server's tool costs us, beside the SDK's client and FastMCP's proxy.

    python bench/tools/upstream.py [--calls 2000] [--rounds 3] [--peer-python PYTHON]

The upstream is the SDK's low-level server over HTTP, in a process of its own; what is counted is the CPU of the calling
process alone, the quietest round. Ours is `Upstreams.call`: breaker, drift, the request, the result checked against its
pinned schema. FastMCP's is `create_proxy(url).call_tool`, without an HTTP server before it. PYTHON is that of an
environment with fastmcp; without it, FastMCP is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# This folder comes first on the path of a script, and its `mcp.py` would be taken for the SDK.
sys.path[:] = [folder for folder in sys.path if Path(folder).absolute() != Path(__file__).absolute().parent]

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
OUTPUT = {"type": "object", "properties": {"said": {"type": "string"}}, "required": ["said"]}
TOOLS = 50
START_S = 30.0


async def serve(ready: Path, *, as_json: bool) -> None:
    """The upstream: fifty tools that say what they are told."""
    import mcp_types as types
    import uvicorn
    from mcp.server.lowlevel import Server
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp.server.transport_security import TransportSecuritySettings

    tools = [
        types.Tool(name=f"echo{n}", description="Says it.", input_schema=SCHEMA, output_schema=OUTPUT)
        for n in range(TOOLS)
    ]

    async def on_list_tools(context: Any, params: Any) -> Any:
        return types.ListToolsResult(tools=tools)

    async def on_call_tool(context: Any, params: Any) -> Any:
        said = {"said": params.arguments["text"]}
        return types.CallToolResult(content=[types.TextContent(text=said["said"])], structured_content=said)

    server: Any = Server("bench", version="1", on_list_tools=on_list_tools, on_call_tool=on_call_tool)
    manager = StreamableHTTPSessionManager(
        app=server,
        stateless=True,
        json_response=as_json,
        security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await manager.handle_request(scope, receive, send)

    config = uvicorn.Config(app, port=0, log_level="error", lifespan="off")
    listening = uvicorn.Server(config)
    async with manager.run():
        task = asyncio.create_task(listening.serve())
        while not listening.started:  # noqa: ASYNC110 - uvicorn tells in no other way
            await asyncio.sleep(0.01)
        ready.write_text(str(listening.servers[0].sockets[0].getsockname()[1]))  # noqa: ASYNC240
        await task


async def ours(url: str, calls: int, era: str) -> float:
    """CPU seconds of ``calls`` calls by `Upstreams`."""
    from roadbed.kernel.deadline import Deadline
    from roadbed.kernel.principal import Principal
    from roadbed.sources.manifest import McpSource
    from roadbed.tools.types import Ok, ToolRequest
    from roadbed.tools.upstreams.http_peer import HttpPeer
    from roadbed.tools.upstreams.lock import ToolsLock, accepted
    from roadbed.tools.upstreams.upstream import Upstreams, upstream_tools

    upstreams = Upstreams(Path())
    sources = {"up": McpSource(url=url)}
    upstreams.use(sources, ToolsLock())
    if era == "legacy":
        peer = upstreams._servers["up"].peer
        assert isinstance(peer, HttpPeer)
        peer.era = "legacy"
    offered = await upstreams.offered("up", Deadline.after(10))
    source, _ = accepted("up", url, offered, approver="bench", at="", effects={"echo0": "read"})
    lock = ToolsLock(sources={"up": source})
    upstreams.use(sources, lock)
    tool = next(tool for tool in upstream_tools(sources, lock, upstreams) if tool.name == "up_echo0")
    principal = Principal("bench", "bench")

    async def call() -> None:
        outcome = await tool.run(ToolRequest({"text": "hello"}, principal, Deadline.after(10)))
        assert isinstance(outcome, Ok), outcome
        assert outcome.data == {"said": "hello"}

    try:
        return await measured(call, calls)
    finally:
        await upstreams.close()


async def sdk(url: str, calls: int) -> float:
    """CPU seconds of ``calls`` calls by the SDK's client, one session for all."""
    from mcp import Client

    async with Client(url) as client:

        async def call() -> None:
            result = await client.call_tool("echo0", {"text": "hello"})
            assert result.structured_content == {"said": "hello"}, result

        return await measured(call, calls)


async def fastmcp(url: str, calls: int) -> float:
    """CPU seconds of ``calls`` calls through FastMCP's proxy."""
    from fastmcp.server import create_proxy

    proxy = create_proxy(url)

    async def call() -> None:
        result = await proxy.call_tool("echo0", {"text": "hello"})
        assert "hello" in str(result.structured_content), result

    return await measured(call, calls)


async def measured(call: Any, calls: int) -> float:
    """CPU seconds of this process, after a warm-up."""
    for _ in range(min(20, calls)):
        await call()
    started = time.process_time()
    for _ in range(calls):
        await call()
    return time.process_time() - started


def child(python: str, who: str, url: str, calls: int, rounds: int) -> float:
    """Microseconds a call in a process of its own, the quietest round."""
    seconds = []
    for _ in range(rounds):
        done = subprocess.run(
            [python, __file__, "--run", who, "--url", url, "--calls", str(calls)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        seconds.append(json.loads(done.stdout.strip().splitlines()[-1]))
    return min(seconds) / calls * 1e6


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-python", default="")
    parser.add_argument("--run", default="")
    parser.add_argument("--url", default="")
    parser.add_argument("--ready", default="")
    arguments = parser.parse_args()
    if arguments.ready:
        asyncio.run(serve(Path(arguments.ready), as_json=arguments.run == "json"))
        return
    if arguments.run:
        who, _, era = arguments.run.partition("-")
        work = {"ours": lambda u, n: ours(u, n, era), "sdk": sdk, "fastmcp": fastmcp}[who]
        print(json.dumps(asyncio.run(work(arguments.url, arguments.calls))))
        return
    for kind in ("json", "events"):
        with tempfile.TemporaryDirectory() as folder:
            ready = Path(folder) / "port"
            server = subprocess.Popen([sys.executable, __file__, "--run", kind, "--ready", str(ready)])
            try:
                until = time.monotonic() + START_S
                while not (ready.exists() and ready.read_text()):
                    assert time.monotonic() < until, "the upstream did not start"
                    time.sleep(0.05)
                compare(kind, f"http://127.0.0.1:{ready.read_text()}/mcp", arguments)
            finally:
                server.terminate()
                server.wait()


def compare(kind: str, url: str, arguments: argparse.Namespace) -> None:
    """One table."""
    calls, rounds = arguments.calls, arguments.rounds
    found = {who: child(sys.executable, who, url, calls, rounds) for who in ("ours-modern", "ours-legacy", "sdk")}
    if arguments.peer_python:
        found["fastmcp"] = child(arguments.peer_python, "fastmcp", url, max(20, calls // 40), rounds)
    print(f"answers as {kind}")
    for who, us in found.items():
        print(f"  {who:12} {us:9.0f} us CPU a call  {us / found['ours-modern']:7.1f} x")


if __name__ == "__main__":
    main()
