"""``roadbed keys``: make, list, rotate and revoke API keys."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from roadbed.cli.connection import add_arguments, connect, escape
from roadbed.cli.main import EXIT_OK
from roadbed.cli.output import print_json, print_table
from roadbed.guard.keys import SCOPES

SUMMARY = "Create, list, rotate and revoke API keys. A key is shown once; only its hash is kept."
EXAMPLE = (
    "  roadbed keys create --team support --app helpdesk --name 'chat widget' --expires 90d\n"
    "  roadbed keys create --team support --models fast,smart --expires 30d --ip 10.0.0.0/8\n"
    "  roadbed keys create --team directory --scope scim --name 'Entra ID'\n"
    "  roadbed keys rotate KEY_ID --overlap 1h\n  roadbed keys list\n  roadbed keys revoke KEY_ID"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="create|list|rotate|revoke")
    create = actions.add_parser("create", help="make a key and show it once")
    create.add_argument("--team", default="default", help="the team whose documents and budget apply")
    create.add_argument("--name", default="", help="what it is for")
    create.add_argument("--app", action="append", help="an app or route that it may call (default: the team's)")
    create.add_argument("--models", action="append", help="models (routes) that it may call, with commas between them")
    create.add_argument("--ip", action="append", help="an address or range that it may be used from (default: all)")
    create.add_argument("--role", action="append", choices=["member", "auditor", "admin"], help="default: member")
    create.add_argument("--budget", default="", help="what it may spend, for example '5 USD/day' (default: no own cap)")
    create.add_argument("--expires", help="for example 30d, or never (default: identity.keys_expire, 90d)")
    create.add_argument("--scope", action="append", choices=sorted(SCOPES), help="what it is for (default: all uses)")
    create.add_argument("--person", default="", help="the id of a person with whose account it ends")
    add_arguments(create)
    add_arguments(actions.add_parser("list", help="list keys, never their values"))
    rotate = actions.add_parser("rotate", help="give a key a new value, shown once")
    rotate.add_argument("id", help="the key's id, from the list")
    rotate.add_argument("--overlap", help="how long the value before stays good, for example 1h (default: not at all)")
    add_arguments(rotate)
    revoke = actions.add_parser("revoke", help="end a key, everywhere, within a second")
    revoke.add_argument("id", help="the key's id, from the list")
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
            "models": _names(arguments.models),
            "ip": _names(arguments.ip) or [],
            "budget": arguments.budget,
            "scopes": arguments.scope,
            "person": arguments.person,
        }
        _show(server.call("POST", "/api/keys", body), arguments)
    elif arguments.action == "rotate":
        path = f"/api/keys/{escape(arguments.id)}/rotate"
        _show(server.call("POST", path, {"overlap": arguments.overlap}), arguments)
    elif arguments.action == "revoke":
        server.call("DELETE", f"/api/keys/{escape(arguments.id)}")
        print_json({"revoked": arguments.id}) if arguments.json else print(f"revoked {arguments.id}")
    else:
        keys = server.call("GET", "/api/keys")
        if arguments.json:
            print_json(keys)
        else:
            rows = [
                [
                    *(k["id"], k["team"], ",".join(k["roles"]), ",".join(k["scopes"] or ["all"]), k["name"]),
                    *(k["state"], f"{k['age_days']} d", k["last_used"] or ""),
                ]
                for k in keys
            ]
            print_table(["id", "team", "roles", "scopes", "name", "state", "age", "last used"], rows)
    return EXIT_OK


def _names(given: list[str] | None) -> list[str] | None:
    """What was given in one option, several, or with commas between."""
    return [name.strip() for text in given for name in text.split(",") if name.strip()] if given else None


def _show(made: Any, arguments: argparse.Namespace) -> None:
    if arguments.json:
        print_json(made)
        return
    until = f"; the value before it is good until {made['previous_until']}" if made["previous_until"] else ""
    print(f"{made['key']}\n\nkey {made['id']} of team {made['team']}; it is not shown again{until}")
    if made.get("note"):
        print(f"note: {made['note']}", file=sys.stderr)
