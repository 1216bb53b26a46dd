"""``roadbed traces``: recent requests, and how one of them was answered."""

from __future__ import annotations

import argparse

from roadbed.cli.connection import add_arguments, connect, escape
from roadbed.cli.main import EXIT_OK
from roadbed.cli.output import money, print_json, print_table, seconds

SUMMARY = "List recent requests, or show one: what was retrieved, which models were tried, how long each step took."
EXAMPLE = "  roadbed traces --rung partial\n  roadbed traces 01JD8K2M0000000000000000AB"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("id", nargs="?", help="a trace")
    parser.add_argument("--app", help="of this app or route")
    parser.add_argument("--rung", help="full, fallback, local, partial, cached, extractive or refused")
    parser.add_argument("--status", choices=["ok", "refused", "failed", "cancelled"], help="that ended so")
    parser.add_argument("--declined", action="store_true", help="answered by saying that the documents do not hold it")
    parser.add_argument("--limit", type=int, default=20, help="how many at most (default: 20)")
    add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print a table, newest first, or one trace's steps in order."""
    server = connect(arguments)
    if arguments.id:
        detail = server.call("GET", f"/api/traces/{escape(arguments.id)}")
        if arguments.json:
            print_json(detail)
            return EXIT_OK
        trace = detail["trace"]
        print(
            f"{trace['id']}  {trace['app']}  {trace['status']}  rung {trace['rung']}  {seconds(trace['duration_us'])}"
        )
        if trace["question"]:
            print(f"question: {trace['question']}")
        rows = [
            [
                seconds(s["start_us"]),
                s["kind"],
                s["name"],
                seconds(s["duration_us"]),
                s["status"],
                _facts(s["attributes"]),
            ]
            for s in detail["spans"]
        ]
        print_table(["at", "kind", "step", "took", "status", "facts"], rows)
        return EXIT_OK
    found = server.call(
        "GET",
        "/api/traces",
        app=arguments.app,
        rung=arguments.rung,
        status=arguments.status,
        declined="true" if arguments.declined else None,
        limit=arguments.limit,
    )
    if arguments.json:
        print_json(found)
        return EXIT_OK
    rows = [
        [
            t["id"],
            t["started"][:19],
            t["app"],
            t["status"],
            "declined" if t["attributes"].get("declined") else t["rung"],
            seconds(t["duration_us"]),
            money(t["cost_microusd"]),
        ]
        for t in found["traces"]
    ]
    print_table(["trace", "started", "app", "status", "answer", "took", "cost"], rows)
    return EXIT_OK


def _facts(attributes: dict[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in attributes.items())
