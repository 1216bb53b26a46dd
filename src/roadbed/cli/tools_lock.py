"""``roadbed tools lock``: show how other MCP servers' tools differ from ``tools.lock``, and accept them into it.

Works on the workspace and asks the servers by itself; no Roadbed server needs to run.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from roadbed.cli.connection import HERE, folder_of
from roadbed.cli.main import EXIT_FAILED, EXIT_OK
from roadbed.cli.output import print_json
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import InvalidRequest, RoadbedError
from roadbed.releases.workspace import load_workspace
from roadbed.sources.manifest import McpSource
from roadbed.tools.types import Effect
from roadbed.tools.upstreams.lock import LOCK_NAME, Drift, ToolsLock, accepted, diff_of, read_lock, write_lock
from roadbed.tools.upstreams.upstream import Upstreams

ASK_S = 30.0


class LockArgumentsInvalid(InvalidRequest):
    """``roadbed tools lock`` names a source, a tool or an effect that there is not."""

    code = "cli.lock_arguments_invalid"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 when anything differs (the default)")
    parser.add_argument("--accept", metavar="SOURCE", default="", help="write what this server offers into tools.lock")
    parser.add_argument(
        "--effect",
        metavar="TOOL=EFFECT",
        action="append",
        default=[],
        help="what a tool of the accepted server changes: read, write, irreversible or send (default: write)",
    )
    parser.add_argument("--by", default="", help="who approves (default: the user of this machine)")
    parser.add_argument("--workspace", default=HERE, type=Path, help="the folder (default: this one)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Exit 0 when all is as it was approved or was accepted, 1 when something differs or was left out."""
    workspace = load_workspace(folder_of(arguments.workspace))
    servers = {name: source for name, source in workspace.manifest.sources.items() if isinstance(source, McpSource)}
    if arguments.accept and arguments.accept not in servers:
        known = ", ".join(servers) or "none"
        raise LockArgumentsInvalid(f"there is no mcp source {arguments.accept!r}", hint=f"mcp sources: {known}")
    lock = read_lock(workspace.folder)
    if arguments.accept:
        return asyncio.run(_accept(workspace.folder, servers, lock, arguments))
    return asyncio.run(_check(workspace.folder, servers, lock, arguments))


async def _check(folder: Path, servers: dict[str, McpSource], lock: ToolsLock, arguments: argparse.Namespace) -> int:
    upstreams = Upstreams(folder)
    found: dict[str, Any] = {}
    is_same = True
    try:
        upstreams.use(servers, lock)
        for name in servers:
            try:
                if name in lock.sources:
                    found[name] = await upstreams.check(name, Deadline.after(ASK_S))
                else:
                    offered = await upstreams.offered(name, Deadline.after(ASK_S))
                    found[name] = Drift(added=tuple(str(tool.get("name")) for tool in offered))
                is_same = is_same and not found[name]
            except RoadbedError as error:
                found[name] = error.message
                is_same = False
    finally:
        await upstreams.close()
    if arguments.json:
        print_json({name: _facts(drift) for name, drift in found.items()})
    else:
        for name, drift in found.items():
            _show(name, drift)
        if not servers:
            print("the manifest has no source of type mcp")
    return EXIT_OK if is_same else EXIT_FAILED


async def _accept(folder: Path, servers: dict[str, McpSource], lock: ToolsLock, arguments: argparse.Namespace) -> int:
    name = arguments.accept
    upstreams = Upstreams(folder)
    try:
        upstreams.use(servers, lock)
        offered = await upstreams.offered(name, Deadline.after(ASK_S))
    finally:
        await upstreams.close()
    effects = _effects(arguments.effect, [str(tool.get("name")) for tool in offered])
    before = lock.sources.get(name)
    config = servers[name]
    source, refused = accepted(
        name,
        config.url or " ".join(config.command),
        offered,
        approver=arguments.by or getpass.getuser(),
        at=datetime.now(UTC).strftime("%Y-%m-%d"),
        before=before,
        effects=effects,
    )
    write_lock(folder, ToolsLock(sources={**lock.sources, name: source}))
    if arguments.json:
        print_json({"accepted": {tool.name: tool.effect for tool in source.tools.values()}, "left_out": refused})
        return EXIT_FAILED if refused else EXIT_OK
    for tool, entry in source.tools.items():
        known = before.tools.get(tool) if before is not None else None
        print(f"{entry.name} ({entry.effect})")
        if known is None or known.digest != entry.digest:
            print(diff_of(known.definition if known is not None else {}, entry.definition))
    for tool, reasons in refused.items():
        print(f"left out: {tool!a}: {'; '.join(reasons)}")
    print(f"{LOCK_NAME} is written; read the texts above, then commit it")
    return EXIT_FAILED if refused else EXIT_OK


def _effects(given: Sequence[str], tools: Sequence[str]) -> dict[str, Effect]:
    effects: dict[str, Effect] = {}
    for entry in given:
        tool, _, effect = entry.partition("=")
        if tool not in tools or effect not in get_args(Effect):
            raise LockArgumentsInvalid(
                f"--effect {entry} does not fit",
                hint=f"TOOL is one of {', '.join(tools)}; EFFECT is one of {', '.join(get_args(Effect))}",
            )
        effects[tool] = next(known for known in get_args(Effect) if known == effect)
    return effects


def _show(name: str, drift: Drift | str) -> None:
    if isinstance(drift, str):
        print(f"{name}: not asked: {drift}")
        return
    if not drift:
        print(f"{name}: as it was approved")
    for tool, diff in drift.changed.items():
        print(f"{name}: {tool!a} was changed; its calls are refused\n{diff}")
    for tool in drift.missing:
        print(f"{name}: {tool!a} is no longer offered")
    for tool in drift.added:
        print(f"{name}: {tool!a} is not approved")
    if drift:
        print(f"to approve what {name} offers now: roadbed tools lock --accept {name}")


def _facts(drift: Drift | str) -> dict[str, Any]:
    if isinstance(drift, str):
        return {"error": drift}
    return {"changed": dict(drift.changed), "missing": drift.missing, "added": drift.added}
