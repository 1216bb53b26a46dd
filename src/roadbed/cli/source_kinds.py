"""What `roadbed source add` asks for each kind of source, and what a first look at it tells.

A look changes nothing: databases are asked for their tables, folders and buckets for a page of names, an API for a
connection alone (no operation of it is known to be harmless), an MCP server for its list of tools.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import ConfigError, RoadbedError

DATABASES = ("postgres", "mysql", "sqlite", "duckdb")
KINDS = (*DATABASES, "files", "http", "objects", "mcp")
PROBE_S = 10.0

Ask = Callable[[str, str, str], str]
"""Asks a person: question, default (none: it must be given; ``-``: it may be left out), flag."""


def settings_of(kind: str, name: str, arguments: argparse.Namespace, ask: Ask) -> dict[str, object]:
    """The settings that only this kind has."""
    match kind:
        case "postgres" | "mysql":
            question = "reference to its connection string (env:NAME or file:PATH)"
            return {"dsn": arguments.dsn or ask(question, f"env:{name.upper()}_DSN", "--dsn")}
        case "sqlite" | "duckdb":
            return {"path": arguments.path or ask("the file, relative to the workspace", "", "--path")}
        case "files":
            return {"path": arguments.path or ask("the folder, relative to the workspace", "", "--path")}
        case "http":
            return _of_http(arguments, ask)
        case "objects":
            return _of_objects(arguments, ask)
        case _:
            return _of_mcp(arguments, ask)


def _of_http(arguments: argparse.Namespace, ask: Ask) -> dict[str, object]:
    settings: dict[str, object] = {
        "url": arguments.url or ask("base address of the API", "", "--url"),
        "openapi": arguments.openapi or ask("its OpenAPI document, a file of the workspace", "", "--openapi"),
    }
    operations = arguments.operations or ask("operationIds that become tools, with commas between", "-", "--operations")
    if operations != "-":
        settings["operations"] = words(operations)
    if key := _reference(arguments, ask, "reference to a bearer token"):
        settings["auth"] = {"bearer": key}
    if arguments.private:
        settings["private"] = True
    return settings


def _of_objects(arguments: argparse.Namespace, ask: Ask) -> dict[str, object]:
    settings: dict[str, object] = {"url": arguments.url or ask("s3://bucket/prefix/ or file:///folder/", "", "--url")}
    if not str(settings["url"]).startswith("file:"):
        endpoint = arguments.endpoint or ask("address of the server (empty: Amazon's)", "-", "--endpoint")
        if endpoint != "-":
            settings["endpoint"] = endpoint
        if key := _reference(arguments, ask, "reference to the access key's id"):
            settings["key"] = key
            settings["secret"] = arguments.secret or ask("reference to the access key's secret", "", "--secret")
    return settings


def _of_mcp(arguments: argparse.Namespace, ask: Ask) -> dict[str, object]:
    if arguments.command:
        return {"command": shlex.split(arguments.command)}
    settings: dict[str, object] = {"url": arguments.url or ask("address of its streamable HTTP endpoint", "", "--url")}
    if key := _reference(arguments, ask, "reference to a bearer token"):
        settings["key"] = key
    return settings


def _reference(arguments: argparse.Namespace, ask: Ask, question: str) -> str:
    given = arguments.key or ask(f"{question} (env:NAME or file:PATH)", "-", "--key")
    return "" if given == "-" else str(given)


def words(text: str) -> list[str]:
    """The words of a list with commas between."""
    return [word.strip() for word in text.split(",") if word.strip()]


async def look_at(folder: Path, name: str, declared: Any) -> dict[str, Any]:
    """What a first look tells: ``is_reachable``, and what is there, or the ``problem`` with a ``hint``."""
    looks = {"files": _files, "http": _http, "objects": _objects, "mcp": _mcp}
    look = looks.get(declared[name].__struct_config__.tag, _database)
    try:
        return {"is_reachable": True, **await look(folder, name, declared)}
    except RoadbedError as error:
        return {"is_reachable": False, "problem": error.message, "hint": error.hint}


async def _database(folder: Path, name: str, declared: Any) -> dict[str, Any]:
    from roadbed.sources.registry import Sources

    sources = Sources(folder, None)
    try:
        await sources.use({name: declared[name]})
        catalogue = await sources.catalogue(name, Deadline.after(PROBE_S))
        warnings = [warned for health in sources.states() for warned in health.warnings]
        return {
            "tables": sorted(catalogue.tables),
            "warnings": [warned.message for warned in warnings],
            "fix": [line for warned in warnings for line in warned.fix],
        }
    finally:
        await sources.close()


async def _files(folder: Path, name: str, declared: Any) -> dict[str, Any]:
    from roadbed.tools.files import FileRoot

    config = declared[name]
    root = FileRoot(name, folder / config.path, exclude=config.exclude)
    return {"names": [entry.path for entry in await asyncio.to_thread(root.entries)]}


async def _objects(folder: Path, name: str, declared: Any) -> dict[str, Any]:
    from roadbed.sources.objects import ObjectsSystem

    found, _ = await ObjectsSystem(name, declared[name], folder).page("", "", Deadline.after(PROBE_S))
    return {"names": [entry.path for entry in found]}


async def _http(folder: Path, name: str, declared: Any) -> dict[str, Any]:
    from roadbed.sources.http import base_url
    from roadbed.sources.reach import Reach
    from roadbed.tools.openapi.document import read_document
    from roadbed.tools.providers.http import http_tools

    config = declared[name]
    document = read_document(folder / config.openapi, shown_as=config.openapi)
    made = http_tools({name: config}, {}, folder, Reach(folder))
    await _connect(base_url(name, config), is_private=config.private)
    offered = [str(found.get("operationId", "")) for _, _, _, found in document.operations()]
    return {
        "tools": [tool.name for tool in made.tools],
        "left_out": [f"{part.operation}: {part.reason}" for part in made.skipped],
        "operations": [operation for operation in offered if operation and operation not in config.operations],
    }


async def _connect(url: Any, *, is_private: bool) -> None:
    """Whether the host has an address that may be asked, and takes a connection. `EgressRefused`, `ConfigError`."""
    from roadbed.sources.egress import EgressPolicy
    from roadbed.wire.resolver import is_literal, system_lookup

    host, port = url.origin.host, url.origin.port
    hosts = frozenset({host})
    try:
        async with asyncio.timeout(PROBE_S):
            addresses = [host] if is_literal(host) else await system_lookup(host, port)
            EgressPolicy(hosts, hosts if is_private else frozenset()).check_addresses(host, addresses)
            _, writer = await asyncio.open_connection(addresses[0], port)
    except (OSError, TimeoutError) as error:
        raise ConfigError(f"{host} takes no connection ({type(error).__name__})", hint="check its address") from None
    writer.close()


async def _mcp(folder: Path, name: str, declared: Any) -> dict[str, Any]:
    from roadbed.tools.upstreams.lock import ToolsLock
    from roadbed.tools.upstreams.review import problems_of
    from roadbed.tools.upstreams.upstream import Upstreams

    upstreams = Upstreams(folder)
    try:
        upstreams.use({name: declared[name]}, ToolsLock())
        offered = await upstreams.offered(name, Deadline.after(PROBE_S))
    finally:
        await upstreams.close()
    reasons = {ascii(tool.get("name"))[1:-1][:64]: problems_of(tool) for tool in offered}
    return {
        "tools": [tool for tool, problems in reasons.items() if not problems],
        "left_out": [f"{tool}: {problems[0]}" for tool, problems in reasons.items() if problems],
        "next": f"no tool of it can be called before you approve what they say: roadbed tools lock --accept {name}",
    }


def lines_of(name: str, found: dict[str, Any]) -> list[str]:
    """What the look told, for a terminal."""
    if not found["is_reachable"]:
        return [f"{name} was not reached: {found['problem']}" + (f" ({found['hint']})" if found["hint"] else "")]
    lines = [f"{name} answers; {_counted(what, found[what])}" for what in ("tables", "names", "tools") if what in found]
    for warning in found.get("warnings", ()):
        lines += ["", f"{warning}. Statements that make a role which only reads:", ""]
    lines += [f"  {line}" for line in found.get("fix", ())]
    lines += [f"left out: {reason}" for reason in found.get("left_out", ())]
    if found.get("operations"):
        lines.append(f"operations that could be tools too: {_shown(found['operations'])}")
    return [*lines, found["next"]] if "next" in found else lines


SHOWN = 20


def _counted(what: str, names: list[str]) -> str:
    word = {"tables": "table", "names": "name", "tools": "tool"}[what]
    there = {"tables": "to read", "names": "at its top", "tools": "of it"}[what]
    return f"{len(names)} {word if len(names) == 1 else what} {there}: {_shown(names) or 'none'}"


def _shown(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
