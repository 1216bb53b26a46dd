"""``roadbed erase``: remove what is stored of a person, and print the signed receipt."""

from __future__ import annotations

import argparse
import sys

from roadbed.cli.connection import add_arguments, connect
from roadbed.cli.main import EXIT_OK
from roadbed.cli.output import print_json, print_table

SUMMARY = "Remove a person's value from every store, keep it from coming back, and sign a receipt."
EXAMPLE = (
    "  roadbed erase --subject jane@example.org --dry-run\n"
    "  roadbed erase --subject - --compact     # reads standard input\n  roadbed erase --receipts"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--subject", help="the value: an e-mail address, a full name, a number; - reads standard input")
    what.add_argument("--receipts", action="store_true", help="list the receipts of what was erased")
    parser.add_argument("--dry-run", action="store_true", help="count what would be erased, and change nothing")
    parser.add_argument("--compact", action="store_true", help="rewrite the tables too, so that no dead row is left")
    add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Needs an admin key."""
    server = connect(arguments)
    if arguments.receipts:
        print_json(server.call("GET", "/api/erasures"))
        return EXIT_OK
    subject = sys.stdin.readline().strip() if arguments.subject == "-" else arguments.subject
    order = {"subject": subject, "dry_run": arguments.dry_run, "compact": arguments.compact}
    receipt = server.call("POST", "/api/erasures", order)
    if arguments.json:
        print_json(receipt)
        return EXIT_OK
    print_table(["store", "rows"], sorted(receipt["stores"].items()))
    for line in receipt["unreachable"]:
        print(f"not reached: {line}")
    word = "would be erased" if arguments.dry_run else "erased"
    print(f"{word}; receipt {receipt['id']}, subject {receipt['subject']}, salt {receipt['salt']} (not shown again)")
    return EXIT_OK
