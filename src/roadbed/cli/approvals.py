"""``roadbed approvals``: what waits for a second person, and deciding it."""

from __future__ import annotations

import argparse
from typing import Any

from roadbed.cli.connection import Server, add_arguments, connect, escape
from roadbed.cli.main import EXIT_OK
from roadbed.cli.output import print_json, print_table

SUMMARY = (
    "List what waits for a second person (promotions, models, dropping that rule), approve or decline it. "
    "Nobody approves what they asked for. Calls of tools: `roadbed tools approvals`."
)
EXAMPLE = (
    "  roadbed approvals list\n  roadbed approvals approve 01JD...\n"
    "  roadbed approvals decline 01JD... --reason 'not yet'"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|approve|decline")
    listed = actions.add_parser("list", help="what waits, who asked and when")
    listed.add_argument("--all", action="store_true", help="also what was decided, replaced or has expired")
    add_arguments(listed)
    approve = actions.add_parser("approve", help="agree to what another person asked for: it is done")
    approve.add_argument("id", help="which, from the list")
    add_arguments(approve)
    decline = actions.add_parser("decline", help="decide against it")
    decline.add_argument("id", help="which, from the list")
    decline.add_argument("--reason", default="", help="why, in a line")
    add_arguments(decline)


def run(arguments: argparse.Namespace) -> int:
    """Needs a key with the role auditor to list, and an admin's to decide."""
    server = connect(arguments)
    if arguments.action == "list":
        return _list(server, arguments)
    body = {"reason": arguments.reason} if arguments.action == "decline" else {}
    found = server.call("POST", f"/api/approvals/{escape(arguments.id)}/{arguments.action}", body)
    if arguments.json:
        print_json(found)
    elif found["state"] == "waiting":
        say_waiting(found)
    else:
        print(f"{found['subject']} ({found['digest'][:12]}): {found['state']}")
    return EXIT_OK


def say_waiting(found: dict[str, Any]) -> None:
    """That something waits, for whom, and what to do."""
    print(f"waits for a second person: {found['what']}, asked by {found['asker_name'] or 'nobody yet'}")
    print(f"  another person approves it: roadbed approvals approve {found['id']}   (or the console's page Access)")
    print(f"  with a key of their own in ROADBED_API_KEY and --url; until {found['expires'][:16]} UTC")


def _list(server: Server, arguments: argparse.Namespace) -> int:
    found = server.call("GET", "/api/approvals" + ("?all=1" if arguments.all else ""))
    if arguments.json:
        print_json(found)
        return EXIT_OK
    rows = [
        [one["id"], one["state"], one["what"], one["asker_name"] or "a saved change", one["asked"][:19], one["reason"]]
        for one in found["approvals"]
    ]
    if rows:
        print_table(["approval", "state", "what", "asked by", "asked at (UTC)", "reason"], rows)
    elif found["two_persons"]:
        print(f"nothing waits; two persons decide on {', '.join(found['two_persons'])}")
    else:
        print("nothing waits: one person decides (access.two_persons in roadbed.yaml asks for a second)")
    return EXIT_OK
