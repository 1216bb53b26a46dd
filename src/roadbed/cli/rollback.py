"""``roadbed rollback``: go back to the release before, everywhere, within a second; it stays until `promote`."""

from __future__ import annotations

import argparse

from roadbed.cli.connection import add_arguments, connect, escape
from roadbed.cli.main import EXIT_OK
from roadbed.cli.output import print_json

SUMMARY = "Go back to the release that was live before (or the one named). It is held until `roadbed promote`."
EXAMPLE = "  roadbed rollback helpdesk --reason 'wrong fees quoted'\n  roadbed rollback helpdesk 9f3a2c"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("app", help="the app")
    parser.add_argument("digest", nargs="?", help="a release's digest or its beginning (default: the one before)")
    parser.add_argument("--reason", default="", help="kept in the history")
    add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the move that was made."""
    server = connect(arguments)
    body = {"digest": arguments.digest, "reason": arguments.reason}
    move = server.call("POST", f"/api/releases/{escape(arguments.app)}/rollback", body)
    if arguments.json:
        print_json(move)
    else:
        before = (move["previous"] or "none")[:12]
        print(f"{arguments.app} is back at {move['digest'][:12]} (before: {before}), held until `roadbed promote`")
    return EXIT_OK
