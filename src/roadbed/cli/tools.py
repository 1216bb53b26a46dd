"""``roadbed tools``: list the tools that serve, call one, test those that need no arguments."""

from __future__ import annotations

import argparse
import json
from typing import Any

from roadbed.cli import tools_approvals, tools_lock
from roadbed.cli.connection import CallFailed, Server, add_arguments, connect, escape
from roadbed.cli.main import EXIT_FAILED, EXIT_OK
from roadbed.cli.output import print_json, print_table
from roadbed.kernel.errors import InvalidRequest

SUMMARY = "List the tools on your sources, call one under its rules, or test them."
EXAMPLE = (
    "  roadbed tools list\n"
    '  roadbed tools call sales_in --args \'{"municipality": "Fjordby"}\'\n'
    '  roadbed tools call appraisals_query --args \'{"sql": "SELECT count(*) FROM sales"}\' --as appraisers\n'
    "  roadbed tools test\n"
    "  roadbed tools approvals list\n  roadbed tools approvals approve ID\n  roadbed tools approvals deny ID\n"
    "  roadbed tools lock --accept crm --effect find_customer=read"
)
CELL_CHARACTERS_SHOWN = 60


class ArgumentsNotJson(InvalidRequest):
    """What ``--args`` holds is not one JSON object."""

    code = "cli.arguments_not_json"
    hint = """write for example --args '{"id": 7}'"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|call|test|approvals|lock")
    add_arguments(actions.add_parser("list", help="the tools that you may call"))
    call = actions.add_parser("call", help="call a tool, and show its result")
    call.add_argument("name", help="the tool")
    call.add_argument("--args", default="{}", help="its arguments, a JSON object (default: none)")
    call.add_argument("--as", dest="as_team", default="", help="call as a member of this team; for admins")
    call.add_argument("--cursor", default="", help="what a cut result said how to go on by")
    add_arguments(call)
    add_arguments(actions.add_parser("test", help="call each reading tool that needs no arguments"))
    tools_approvals.configure(
        actions.add_parser("approvals", help="the calls that wait for a person, and deciding them")
    )
    tools_lock.configure(actions.add_parser("lock", help="compare other MCP servers' tools with tools.lock, or accept"))


def run(arguments: argparse.Namespace) -> int:
    """All but ``lock`` ask the server."""
    if arguments.action == "lock":
        return tools_lock.run(arguments)
    server = connect(arguments)
    if arguments.action == "approvals":
        return tools_approvals.run(server, arguments)
    if arguments.action == "call":
        return _call(server, arguments)
    return _test(server, arguments) if arguments.action == "test" else _list(server, arguments)


def _list(server: Server, arguments: argparse.Namespace) -> int:
    found = server.call("GET", "/api/tools")
    if arguments.json:
        print_json(found)
        return EXIT_OK
    rows = [[tool["name"], tool["source"], tool["effect"], _takes(tool), _first(tool)] for tool in found["tools"]]
    print_table(["tool", "source", "effect", "takes", "what it does"], rows)
    return EXIT_OK


def _takes(tool: dict[str, Any]) -> str:
    schema = tool["input_schema"]
    required = schema.get("required", [])
    return ", ".join(name if name in required else f"[{name}]" for name in schema.get("properties", {}))


def _first(tool: dict[str, Any]) -> str:
    return str(tool["description"]).split("\n", 1)[0][:CELL_CHARACTERS_SHOWN]


def _call(server: Server, arguments: argparse.Namespace) -> int:
    try:
        given = json.loads(arguments.args)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise ArgumentsNotJson("--args is not a JSON object")
    body = {"arguments": given, "cursor": arguments.cursor, "as_team": arguments.as_team}
    found = server.call("POST", f"/api/tools/{escape(arguments.name)}/call", body)
    if arguments.json:
        print_json(found)
    elif found["outcome"] == "needs_approval":
        print(f"waits for a person's approval: {found['approval_id']}")
        for name, value in found["preview"].items():
            print(f"  {name}: {value}")
        print("it is given in the console under Tools, or by an admin with `roadbed tools approvals approve ID`;")
        print("then make the same call again")
    else:
        _show(found)
    return EXIT_OK


def _show(found: dict[str, Any]) -> None:
    data = found["data"]
    if isinstance(data, dict) and isinstance(data.get("rows"), list) and isinstance(data.get("columns"), list):
        rows = [[_cell(value) for value in row] for row in data["rows"]]
        print_table([column["name"] for column in data["columns"]], rows)
        for note in data.get("notes", []):
            print(note)
    else:
        print_json(data)
    for origin in found["provenance"]:
        age = f", {origin['age_s']:.0f} s old" if origin["age_s"] else ""
        print(f"\nfrom {origin['source']} ({origin['resource']}{age})")
    if found["is_truncated"]:
        print("there is more" + (f"; go on with --cursor {found['cursor']}" if found["cursor"] else "; ask for less"))


def _cell(value: Any) -> str:
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= CELL_CHARACTERS_SHOWN else f"{text[:CELL_CHARACTERS_SHOWN]}…"


def _test(server: Server, arguments: argparse.Namespace) -> int:
    rows, has_failed = [], False
    for tool in server.call("GET", "/api/tools")["tools"]:
        if tool["effect"] != "read" or tool["input_schema"].get("required"):
            rows.append(
                [tool["name"], "not called", "it changes something" if tool["effect"] != "read" else "needs arguments"]
            )
            continue
        try:
            server.call("POST", f"/api/tools/{escape(tool['name'])}/call", {"arguments": {}})
            rows.append([tool["name"], "works", ""])
        except CallFailed as error:
            has_failed = True
            rows.append([tool["name"], "failed", error.message])
    if arguments.json:
        print_json([dict(zip(("tool", "result", "why"), row, strict=True)) for row in rows])
    else:
        print_table(["tool", "result", "why"], rows)
    return EXIT_FAILED if has_failed else EXIT_OK
