"""``roadbed releases``: what is live, what waits, and how it came to be."""

from __future__ import annotations

import argparse

from roadbed.cli.connection import add_arguments, connect, escape
from roadbed.cli.main import EXIT_OK
from roadbed.cli.output import print_json, print_table

SUMMARY = "List the releases of all apps, or the history of one."
EXAMPLE = "  roadbed releases\n  roadbed releases helpdesk"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("app", nargs="?", help="one app's history (default: what serves of every app)")
    add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print aliases, or one app's moves, newest first."""
    server = connect(arguments)
    if arguments.app:
        detail = server.call("GET", f"/api/releases/{escape(arguments.app)}")
        if arguments.json:
            print_json(detail)
            return EXIT_OK
        rows = [
            [
                m["at"][:19],
                m["action"],
                m["name"],
                (m["digest"] or "")[:12],
                (m["previous"] or "")[:12],
                m["actor"],
                m["reason"],
            ]
            for m in detail["history"]
        ]
        print_table(["at", "action", "alias", "release", "before", "by", "reason"], rows)
        return EXIT_OK
    apps = server.call("GET", "/api/releases")
    if arguments.json:
        print_json(apps)
    else:
        rows = [
            [a["app"], (a["live"] or "")[:12], (a["candidate"] or "")[:12], "held" if a["held"] else ""] for a in apps
        ]
        print_table(["app", "live", "candidate", ""], rows)
    return EXIT_OK
