"""``roadbed keys``: make, list and revoke API keys."""

from __future__ import annotations

import argparse

from roadbed.cli.connection import add_arguments, connect, escape
from roadbed.cli.main import EXIT_OK
from roadbed.cli.output import print_json, print_table

SUMMARY = "Create, list and revoke API keys. A key is shown once; only its hash is kept."
EXAMPLE = (
    "  roadbed keys create --team support --app helpdesk --name 'chat widget' --expires 90d\n"
    "  roadbed keys list\n  roadbed keys revoke KEY_ID"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="create|list|revoke")
    create = actions.add_parser("create", help="make a key and show it once")
    create.add_argument("--team", default="default", help="the team whose documents and budget apply")
    create.add_argument("--name", default="", help="what it is for")
    create.add_argument("--app", action="append", help="an app or route that it may call (default: the team's)")
    create.add_argument("--role", action="append", choices=["member", "auditor", "admin"], help="default: member")
    create.add_argument("--budget", default="", help="what it may spend, for example '5 USD/day' (default: no own cap)")
    create.add_argument("--expires", help="for example 90d (default: never)")
    add_arguments(create)
    add_arguments(actions.add_parser("list", help="list keys, never their values"))
    revoke = actions.add_parser("revoke", help="end a key, everywhere, within a second")
    revoke.add_argument("id")
    add_arguments(revoke)


def run(arguments: argparse.Namespace) -> int:
    """Needs an admin key, which the state folder holds for its owner."""
    server = connect(arguments)
    if arguments.action == "create":
        body = {
            "team": arguments.team,
            "name": arguments.name,
            "apps": arguments.app,
            "roles": arguments.role or ["member"],
            "expires": arguments.expires,
            "budget": arguments.budget,
        }
        made = server.call("POST", "/api/keys", body)
        if arguments.json:
            print_json(made)
        else:
            print(f"{made['key']}\n\nkey {made['id']} of team {made['team']}; it is not shown again")
    elif arguments.action == "revoke":
        server.call("DELETE", f"/api/keys/{escape(arguments.id)}")
        print_json({"revoked": arguments.id}) if arguments.json else print(f"revoked {arguments.id}")
    else:
        keys = server.call("GET", "/api/keys")
        if arguments.json:
            print_json(keys)
        else:
            rows = [
                [k["id"], k["team"], ",".join(k["roles"]), k["name"], k["state"], k["last_used"] or ""] for k in keys
            ]
            print_table(["id", "team", "roles", "name", "state", "last used"], rows)
    return EXIT_OK
