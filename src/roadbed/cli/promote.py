"""``roadbed promote``: make a release live; ends the hold that a rollback left."""

from __future__ import annotations

import argparse

from roadbed.cli.approvals import say_waiting
from roadbed.cli.connection import add_arguments, connect, escape
from roadbed.cli.main import EXIT_OK
from roadbed.cli.output import print_json

SUMMARY = (
    "Make a release live: the candidate, or the one named. Ends the hold that a rollback left. Where access.two_persons"
    " names promotions, it waits until another person agrees: with the same command, or `roadbed approvals approve`."
)
EXAMPLE = "  roadbed promote helpdesk\n  roadbed promote helpdesk 9f3a2c --reason 'evaluated'"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("app", help="the app")
    parser.add_argument("digest", nargs="?", help="a release's digest or its beginning (default: the candidate)")
    parser.add_argument("--reason", default="", help="kept in the history")
    add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the move that was made, or that it waits for a second person."""
    server = connect(arguments)
    body = {"digest": arguments.digest, "reason": arguments.reason}
    move = server.call("POST", f"/api/releases/{escape(arguments.app)}/promote", body)
    if arguments.json:
        print_json(move)
    elif "asker" in move:
        say_waiting(move)
    else:
        print(f"{arguments.app} now serves {move['digest'][:12]} (before: {(move['previous'] or 'none')[:12]})")
    return EXIT_OK
