"""``roadbed analytics``: ask an app that answers from databases, list its questions, run one."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from roadbed.cli.connection import Server, add_arguments, connect, escape
from roadbed.cli.main import EXIT_FAILED, EXIT_NOTHING_FOUND, EXIT_OK
from roadbed.cli.output import print_json, print_table
from roadbed.kernel.errors import InvalidRequest

SUMMARY = "Ask an analytics app, list its declared and saved questions, or run one of them."
EXAMPLE = (
    '  roadbed analytics ask figures "How many sales were there in each municipality?"\n'
    "  roadbed analytics questions figures\n"
    "  roadbed analytics run figures fees_of_year --set year=2025 --csv"
)
CELL_CHARACTERS_SHOWN = 60


class ParameterNotNamed(InvalidRequest):
    """What ``--set`` holds is not ``name=value``."""

    code = "cli.parameter_not_named"
    hint = "write for example --set year=2025"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ask|questions|run")
    ask = actions.add_parser("ask", help="ask in words")
    ask.add_argument("app", help="the analytics app")
    ask.add_argument("question", nargs="+", help="the question, in quotes or not")
    add_arguments(ask)
    listed = actions.add_parser("questions", help="the questions that need no model")
    listed.add_argument("app", help="the analytics app")
    add_arguments(listed)
    run_ = actions.add_parser("run", help="run a declared or saved question")
    run_.add_argument("app", help="the analytics app")
    run_.add_argument("name", help="the question's name")
    run_.add_argument("--set", dest="given", action="append", default=[], metavar="NAME=VALUE", help="a parameter")
    run_.add_argument("--csv", action="store_true", help="print the rows as CSV")
    add_arguments(run_)


def run(arguments: argparse.Namespace) -> int:
    """Exit 0 with an answer, 6 when there is none, 1 when its statement or its sources failed."""
    server = connect(arguments)
    base = f"/api/analytics/{escape(arguments.app)}"
    if arguments.action == "questions":
        return _questions(server, base, arguments)
    if arguments.action == "ask":
        found = server.call("POST", f"{base}/ask", {"question": " ".join(arguments.question)})
    else:
        given = {"parameters": _given(arguments.given)}
        found = server.call("POST", f"{base}/run/{escape(arguments.name)}", given)
    if arguments.json:
        print_json(found)
    elif getattr(arguments, "csv", False):
        _csv(found["roadbed"]["analytics"])
    else:
        _show(found)
    facts = found["roadbed"]
    if facts["rung"] == "refused":
        return EXIT_FAILED
    return EXIT_NOTHING_FOUND if facts["abstained"] else EXIT_OK


def _given(texts: list[str]) -> dict[str, str]:
    given = {}
    for text in texts:
        name, is_named, value = text.partition("=")
        if not is_named or not name:
            raise ParameterNotNamed("--set has no name=value")
        given[name] = value
    return given


def _questions(server: Server, base: str, arguments: argparse.Namespace) -> int:
    found = server.call("GET", f"{base}/questions")
    if arguments.json:
        print_json(found)
        return EXIT_OK
    rows = [[one["name"], "declared", ", ".join(one["parameters"]), one["title"]] for one in found["declared"]]
    rows += [[one["name"], one["every"] or "saved", "", one["title"]] for one in found["saved"]]
    print_table(["name", "runs", "asks for", "question"], rows)
    return EXIT_OK


def _csv(analytics: dict[str, Any]) -> None:
    from roadbed.apps.analytics_export import csv_of
    from roadbed.apps.analytics_table import table_from

    if analytics["columns"]:
        table = table_from(analytics, is_truncated=analytics["is_truncated"])
        sys.stdout.write(csv_of(table).decode("utf-8-sig").replace("\r\n", "\n"))
    if analytics["row_count"] > len(analytics["rows"]) or analytics["is_truncated"]:
        print("there are more rows: GET /api/analytics/APP/export/NAME has them", file=sys.stderr)


def _show(found: dict[str, Any]) -> None:
    facts, analytics = found["roadbed"], found["roadbed"]["analytics"]
    if not analytics["columns"]:
        print(found["text"])
    else:
        if analytics["sentence"]:
            print(f"{analytics['sentence']}\n")
        rows = [[_cell(value) for value in row] for row in analytics["rows"]]
        print_table([column["name"] for column in analytics["columns"]], rows)
        for note in analytics["notes"]:
            print(f"note: {note}")
        for one in analytics["statements"]:
            print(f"\non {one['source']}: {' '.join(one['sql'].split())}")
    missing = f"; missing: {', '.join(facts['degraded'])}" if facts["degraded"] else ""
    print(f"\nrung {facts['rung']}{missing} · trace {facts['trace']}", file=sys.stderr)


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= CELL_CHARACTERS_SHOWN else f"{text[:CELL_CHARACTERS_SHOWN]}…"
