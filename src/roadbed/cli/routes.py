"""``roadbed routes explain``: which endpoint of a route would take a request like this one now, and why."""

from __future__ import annotations

import argparse

from roadbed.cli.connection import add_arguments, connect, escape
from roadbed.cli.main import EXIT_OK
from roadbed.cli.output import print_json, print_table

SUMMARY = "Say which endpoint of a route would take a request now, and why the others would not."
EXAMPLE = (
    "  roadbed routes explain smart\n  roadbed routes explain smart --label confidential --tokens 20000\n"
    "  roadbed routes explain smart --team support --header x-tier=gold --json"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="explain")
    explain = actions.add_parser("explain", help="the choice for one request, in order, with everyone left out")
    add_explain_arguments(explain)


def add_explain_arguments(explain: argparse.ArgumentParser) -> None:
    """What ``explain`` takes, here and as ``roadbed explain-route``."""
    explain.add_argument("name", help="the route")
    explain.add_argument("--label", help="the data's label, for example confidential or confidential,personal")
    explain.add_argument("--tokens", type=int, help="the prompt's length in tokens (default: 0)")
    explain.add_argument("--team", help="the caller's team")
    explain.add_argument("--header", help="a request header that rules read, as name=value")
    add_arguments(explain)


def run(arguments: argparse.Namespace) -> int:
    """Print the order as a table, then who is left out."""
    found = connect(arguments).call(
        "GET",
        f"/api/routes/{escape(arguments.name)}/explain",
        label=arguments.label,
        tokens=arguments.tokens,
        team=arguments.team,
        header=arguments.header,
    )
    if arguments.json:
        print_json(found)
        return EXIT_OK
    by = f"rule {found['rule']}, then {found['strategy']}" if found["rule"] else found["strategy"]
    chance = ", by chance among equals" if found["by_chance"] else ""
    if found["refused"]:
        print(f"refused: {found['refused']}")
    elif found["would_ask"] is None:
        print(f"nobody could be asked now ({by})")
    else:
        if len(found["together"]) > 1:
            print(f"{' and '.join(found['together'])} would be asked at once ({by})")
        else:
            print(f"{found['would_ask']} would be asked first ({by}{chance})")
        rows = [
            [row["endpoint"], row["rung"], row["in_flight"], _pace(row["seconds_per_token"]), row["failed_last"]]
            for row in found["order"]
        ]
        print_table(["endpoint", "rung", "in flight", "ms/token", "failed last"], rows)
    for reason in found["left_out"]:
        print(f"left out: {reason}")
    return EXIT_OK


def _pace(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f}"
