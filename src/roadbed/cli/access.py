"""``roadbed access``: why somebody may or may not do something, and an admin's rights in an emergency."""

from __future__ import annotations

import argparse
from typing import Any
from urllib.parse import urlencode

from roadbed.cli.connection import Server, add_arguments, connect, escape
from roadbed.cli.main import EXIT_NOT_ALLOWED, EXIT_OK, EXIT_USAGE, report
from roadbed.cli.output import print_json, print_table
from roadbed.kernel.errors import InvalidRequest

SUMMARY = (
    "Say whether a key, a person or a team may do something, which check decides, and what would be needed; "
    "break the glass in an emergency, and review how others used it."
)
EXAMPLE = (
    "  roadbed access explain team:support app.use helpdesk\n"
    "  roadbed access explain 'chat widget' tool.call crm_update\n  roadbed access explain KEY_ID keys.manage\n"
    "  roadbed access break-glass --reason 'answers quote wrong fees, INC-42' --minutes 30\n"
    "  roadbed access review 01JD... --note 'rolled back only, as INC-42 says'"
)
GLASS_PATH = "/api/access/break-glass"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="explain|break-glass|review")
    explain = actions.add_parser("explain", help="ask every check in turn; exit code 5 when it is not allowed")
    explain.add_argument("who", help="a key's id or name, a person's, team:NAME or team:NAME/ROLE")
    explain.add_argument("what", help="an action such as app.use, tool.call or release.promote")
    explain.add_argument("on", nargs="?", default="", help="the app, route, tool or endpoint")
    add_arguments(explain)
    glass = actions.add_parser("break-glass", help="take an admin's rights for a bounded time; everybody is told")
    glass.add_argument("--reason", default="", help="why, in ten characters or more; kept for ever")
    glass.add_argument("--minutes", type=int, default=30, help="for how long: 1 to 60 (default: 30)")
    glass.add_argument("--end", metavar="ID", help="end one at once, in every process")
    add_arguments(glass)
    review = actions.add_parser("review", help="list the uses that nobody else has looked at, or note that you have")
    review.add_argument("id", nargs="?", help="the use that you looked at")
    review.add_argument("--note", default="", help="what you found")
    review.add_argument("--all", action="store_true", help="list those that were reviewed, too")
    add_arguments(review)


def run(arguments: argparse.Namespace) -> int:
    """``explain`` and ``review`` need a key that may read the deployment; ``break-glass`` one that policies permit."""
    server = connect(arguments)
    if arguments.action == "break-glass":
        return _break_glass(server, arguments)
    if arguments.action == "review":
        return _review(server, arguments)
    query = urlencode({"who": arguments.who, "what": arguments.what, "on": arguments.on})
    found = server.call("GET", f"/api/access/explain?{query}")
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


def _break_glass(server: Server, arguments: argparse.Namespace) -> int:
    if arguments.end:
        found = server.call("POST", f"{GLASS_PATH}/{escape(arguments.end)}/end", {})
        said = f"{found['id']} is over; it waits for another person: roadbed access review {found['id']}"
    else:
        order = {"reason": arguments.reason, "minutes": arguments.minutes}
        found = server.call("POST", GLASS_PATH, order)
        said = (
            f"an admin's rights until {found['ends'][:19]} UTC; all that you do is recorded under {found['id']}\n"
            f"  end it sooner: roadbed access break-glass --end {found['id']}"
        )
    print_json(found) if arguments.json else print(said)
    return EXIT_OK


def _review(server: Server, arguments: argparse.Namespace) -> int:
    if not arguments.id:
        return _list(server, arguments)
    if not arguments.note:
        report(InvalidRequest("say what you found", hint="roadbed access review ID --note TEXT"))
        return EXIT_USAGE
    found = server.call("POST", f"{GLASS_PATH}/{escape(arguments.id)}/review", {"note": arguments.note})
    print_json(found) if arguments.json else print(f"{found['id']} was reviewed")
    return EXIT_OK


def _list(server: Server, arguments: argparse.Namespace) -> int:
    found = server.call("GET", GLASS_PATH + ("?all=1" if arguments.all else ""))
    if arguments.json:
        print_json(found)
        return EXIT_OK
    rows = [
        [one["id"], _state(one), one["name"], one["started"][:19], (one["ended"] or one["ends"])[:19], one["reason"]]
        for one in found["break_glass"]
    ]
    if rows:
        print_table(["use", "state", "by", "from (UTC)", "to (UTC)", "reason"], rows)
        print("what was done under one: roadbed audit query --break-glass USE")
    else:
        print("no use of break-glass waits for a review")
    return EXIT_OK


def _state(one: dict[str, Any]) -> str:
    if one["ended"] is None:
        return "in force"
    return f"reviewed by {one['reviewed_by']}" if one["reviewed"] else "waits for a review"
