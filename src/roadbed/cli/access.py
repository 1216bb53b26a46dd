"""``roadbed access``: why somebody may or may not do something."""

from __future__ import annotations

import argparse
from urllib.parse import urlencode

from roadbed.cli.connection import add_arguments, connect
from roadbed.cli.main import EXIT_NOT_ALLOWED, EXIT_OK
from roadbed.cli.output import print_json

SUMMARY = "Say whether a key, a person or a team may do something, which check decides, and what would be needed."
EXAMPLE = (
    "  roadbed access explain team:support app.use helpdesk\n"
    "  roadbed access explain 'chat widget' tool.call crm_update\n  roadbed access explain KEY_ID keys.manage"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="explain")
    explain = actions.add_parser("explain", help="ask every check in turn; exit code 5 when it is not allowed")
    explain.add_argument("who", help="a key's id or name, a person's, team:NAME or team:NAME/ROLE")
    explain.add_argument("what", help="an action such as app.use, tool.call or release.promote")
    explain.add_argument("on", nargs="?", default="", help="the app, route, tool or endpoint")
    add_arguments(explain)


def run(arguments: argparse.Namespace) -> int:
    """Needs a key that may read the deployment."""
    query = urlencode({"who": arguments.who, "what": arguments.what, "on": arguments.on})
    found = connect(arguments).call("GET", f"/api/access/explain?{query}")
    if arguments.json:
        print_json(found)
    else:
        who = found["who"]["name"] or found["who"]["id"]
        print(f"{who} {'may' if found['allowed'] else 'may not'} {found['what']} on {found['on']}")
        for check in found["checks"]:
            print(f"  {'allows' if check['allows'] else 'refuses'}: {check['kind']} {check['name']}")
        for needed in found["needed"]:
            print(f"  needed: {needed}")
    return EXIT_OK if found["allowed"] else EXIT_NOT_ALLOWED
