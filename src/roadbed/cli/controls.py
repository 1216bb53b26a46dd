"""``roadbed controls``: how the controls stand, running one, and their evidence."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from roadbed.cli.connection import Server, add_arguments, connect, escape
from roadbed.cli.main import EXIT_FAILED, EXIT_OK
from roadbed.cli.output import print_json, print_table

SUMMARY = "List and run the controls, the checks that run all the time, and export their evidence."
EXAMPLE = (
    "  roadbed controls list\n  roadbed controls run canary\n  roadbed controls evidence --oscal results.json\n"
    "  roadbed controls note-restore 'into a second machine, 14 tables compared'"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|run|evidence|note-restore")
    add_arguments(actions.add_parser("list", help="every control, how it stands and when it ran"))
    run = actions.add_parser("run", help="run one now, or all; exit code 1 when one does not pass")
    run.add_argument("id", nargs="?", help="which (default: all)")
    add_arguments(run)
    evidence = actions.add_parser("evidence", help="the signed records of what was found")
    evidence.add_argument("--control", help="of one control")
    evidence.add_argument("--from", dest="start", help="since a day or a time (UTC)")
    evidence.add_argument("--oscal", type=Path, metavar="FILE", help="write OSCAL assessment results")
    add_arguments(evidence)
    note = actions.add_parser("note-restore", help="record that a backup was restored and looked at")
    note.add_argument("note", nargs="?", default="", help="what was done, in a line")
    add_arguments(note)


def run(arguments: argparse.Namespace) -> int:
    """Needs a key with the role auditor; running one and noting need an admin's."""
    server = connect(arguments)
    if arguments.action == "run":
        return _run(server, arguments)
    if arguments.action == "note-restore":
        print_json(server.call("POST", "/api/controls/notes/restore", {"note": arguments.note}))
        return EXIT_OK
    if arguments.action == "evidence":
        return _evidence(server, arguments)
    found = server.call("GET", "/api/controls")
    if arguments.json:
        print_json(found)
    else:
        print_table(
            ["control", "stands", "last run", "every", "found"],
            [
                [row["id"], row["standing"], (row["last"] or {}).get("ended", "")[:19], _period(row["period_s"]),
                 (row["last"] or {}).get("summary", "")]
                for row in found["controls"]
            ],
        )  # fmt: skip
    return EXIT_FAILED if any(row["is_failed"] for row in found["controls"]) else EXIT_OK


def _run(server: Server, arguments: argparse.Namespace) -> int:
    wanted = [arguments.id] if arguments.id else [row["id"] for row in server.call("GET", "/api/controls")["controls"]]
    done: list[dict[str, Any]] = []
    for name in wanted:
        done.append(server.call("POST", f"/api/controls/{escape(name)}/run", {}))
        if not arguments.json:
            record = done[-1]
            seconds = record["duration_ms"] / 1000
            print(f"{record['outcome']:<8} {record['control']:<20} {seconds:6.1f} s  {record['summary']}")
            for problem in record["problems"]:
                print(f"         {problem}")
    if arguments.json:
        print_json(done[0] if arguments.id else done)
    return EXIT_OK if all(record["outcome"] == "pass" for record in done) else EXIT_FAILED


def _evidence(server: Server, arguments: argparse.Namespace) -> int:
    query = {"control": arguments.control, "from": arguments.start}
    if arguments.oscal:
        document = server.call("GET", "/api/controls/evidence", format="oscal", **query)
        arguments.oscal.write_text(document["text"], encoding="utf-8")
        print(f"wrote {arguments.oscal}; signature {document['signature']} by {document['key']}")
        return EXIT_OK
    found = server.call("GET", "/api/controls/evidence", **query)
    if arguments.json:
        print_json(found)
        return EXIT_OK
    print_table(
        ["when (UTC)", "control", "outcome", "n", "found"],
        [[row["ended"][:19], row["control"], row["outcome"], row["n"], row["summary"]] for row in found["evidence"]],
    )
    return EXIT_OK


def _period(seconds: float) -> str:
    return f"{seconds / 3600:.0f} h" if seconds < 86_400 else f"{seconds / 86_400:.0f} d"
