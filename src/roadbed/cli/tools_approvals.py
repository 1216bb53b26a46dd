"""``roadbed tools approvals``: the calls that wait for a person, with what each would change, and deciding them.

Deciding is for admins. What is shown is what the page Tools shows: the arguments, because a person decides by them.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from roadbed.cli.connection import Server, add_arguments, escape
from roadbed.cli.main import EXIT_FAILED, EXIT_OK
from roadbed.cli.output import print_json, print_table


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    actions = parser.add_subparsers(dest="decision", required=True, metavar="list|approve|deny")
    listed = actions.add_parser("list", help="the calls that wait")
    listed.add_argument("--all", action="store_true", help="also those that were decided or have expired")
    add_arguments(listed)
    approve = actions.add_parser("approve", help="let a call run, once, and show what came of it")
    approve.add_argument("id", help="the approval")
    add_arguments(approve)
    deny = actions.add_parser("deny", help="decide against a call")
    deny.add_argument("id", help="the approval")
    deny.add_argument("--reason", default="", help="why; whoever asked is told")
    add_arguments(deny)


def run(server: Server, arguments: argparse.Namespace) -> int:
    """Exit 0 when what was asked was done; 1 when an approved call did not end well."""
    if arguments.decision == "list":
        return _list(server, arguments)
    path = f"/api/tools/approvals/{escape(arguments.id)}/{arguments.decision}"
    found = server.call("POST", path, {"reason": arguments.reason} if arguments.decision == "deny" else {})
    if arguments.json:
        print_json(found)
    elif arguments.decision == "deny":
        print(f"{arguments.id} was denied")
    else:
        print(f"{arguments.id} ran")
        print_json(found.get("data"))
    return EXIT_OK if arguments.decision == "deny" or found.get("outcome") == "ok" else EXIT_FAILED


def _list(server: Server, arguments: argparse.Namespace) -> int:
    found = server.call("GET", "/api/tools/approvals" + ("?all=1" if arguments.all else ""))
    if arguments.json:
        print_json(found)
        return EXIT_OK
    rows = [
        [
            one["id"],
            one["state"],
            one["tool"],
            _words(one["arguments"]),
            one["asker_name"] or one["asker"],
            _change(one),
        ]
        for one in found["approvals"]
    ]
    print_table(["approval", "state", "tool", "arguments", "asked by", "would change"], rows)
    return EXIT_OK


def _words(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items())


def _change(one: dict[str, Any]) -> str:
    if "request" in one["preview"]:
        return str(one["preview"]["request"])
    rows = one["preview"].get("rows")
    return f"{rows} {'row' if rows == 1 else 'rows'} of {one['source']}" if rows is not None else str(one["source"])
