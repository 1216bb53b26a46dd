"""``roadbed search``: passages that match, with where they stand."""

from __future__ import annotations

import argparse
import sys

from roadbed.cli.ask import shortfalls
from roadbed.cli.connection import add_arguments, connect
from roadbed.cli.main import EXIT_NOTHING_FOUND, EXIT_OK
from roadbed.cli.output import print_json

SUMMARY = "Search the documents that your key may see, by words and by meaning."
EXAMPLE = '  roadbed search "index adjustment"\n  roadbed search -k 20 --collection company "retention period" --json'
EXCERPT_CHARACTERS = 300


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("query", nargs="+", help="what to look for, in quotes or not")
    parser.add_argument("-k", type=int, default=8, help="how many passages (default: 8)")
    parser.add_argument("--collection", action="append", help="only this collection (may be given more than once)")
    add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit 0 with passages, 6 when nothing was found."""
    server = connect(arguments)
    body = {"query": " ".join(arguments.query), "k": arguments.k, "collections": arguments.collection}
    found = server.call("POST", "/api/search", body)
    if arguments.json:
        print_json(found)
    for number, hit in enumerate(found["hits"] if not arguments.json else (), 1):
        place = f" · {hit['location']}" if hit.get("location") else ""
        text = " ".join(hit["text"].split())
        print(f"{number}. {hit['title']}{place}  ({hit['uri']})  {hit['score']:.3f}")
        print(f"   {text[:EXCERPT_CHARACTERS]}{'…' if len(text) > EXCERPT_CHARACTERS else ''}\n")
    if found["missing"] and not arguments.json:
        print("\n".join(shortfalls(found["missing"])), file=sys.stderr)
    if not found["hits"] and not arguments.json:
        print("nothing was found; `roadbed ingest` reads changed documents, `roadbed doctor` looks for faults")
    return EXIT_OK if found["hits"] else EXIT_NOTHING_FOUND
