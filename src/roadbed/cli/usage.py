"""``roadbed usage``: what was used and what it cost, by team, app, route, endpoint, model, release, key, tag or day."""

from __future__ import annotations

import argparse

from roadbed.cli.connection import add_arguments, connect
from roadbed.cli.main import EXIT_OK
from roadbed.cli.output import money, print_json, print_table

COUNTS = ("calls", "input_tokens", "output_tokens")
SUMMARY = "Show what was used and what it cost, and how the budgets stand."
EXAMPLE = (
    "  roadbed usage --by team,model\n  roadbed usage --by tag --from 2026-11-01 --to 2026-11-30\n"
    "  roadbed usage --by day --within 14d --json"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument(
        "--by", default="team", help="up to three of team, app, route, endpoint, model, release, key, tag, day"
    )
    parser.add_argument("--within", help="how far back, for example 7d (default: 30d)")
    parser.add_argument("--from", dest="start", help="first day, for example 2026-11-01 (UTC)")
    parser.add_argument("--to", dest="end", help="last day")
    add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print a table, dearest first, and the budgets of the running period."""
    query = {"by": arguments.by, "within": arguments.within, "from": arguments.start, "to": arguments.end}
    found = connect(arguments).call("GET", "/api/usage", **query)
    if arguments.json:
        print_json(found)
        return EXIT_OK
    by = found["by"]
    rows = [[*[row[name] for name in (*by, *COUNTS)], money(row["cost_microusd"])] for row in found["rows"]]
    total = found["total"]
    rows.append(["total", *[""] * (len(by) - 1), *[total[name] for name in COUNTS], money(total["cost_microusd"])])
    print_table([*by, "calls", "tokens in", "tokens out", "cost"], rows)
    if found["is_cut"]:
        print("more rows are left out; group by less, or ask for a shorter range")
    if found["budgets"]:
        print()
        budgets = [
            [row["id"], *[money(row[name]) for name in ("cap", "settled", "leased")], row["ends"][:16]]
            for row in found["budgets"]
        ]
        print_table(["budget", "cap", "spent", "leased", "resets (UTC)"], budgets)
    return EXIT_OK
