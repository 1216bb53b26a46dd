"""``roadbed policy``: hold the workspace's policies against their schema and their tests; no server is asked."""

from __future__ import annotations

import argparse
from pathlib import Path

from roadbed.cli.connection import HERE, folder_of
from roadbed.cli.main import EXIT_FAILED, EXIT_OK
from roadbed.cli.output import print_json
from roadbed.guard.access_files import default_text, schema_text
from roadbed.releases.workspace import load_workspace
from roadbed.server.policy_cases import CaseResult, run_cases

SUMMARY = "Test the workspace's access policies, or print the shipped set and the schema."
EXAMPLE = (
    "  roadbed policy test\n  roadbed policy test WORKSPACE --json\n  roadbed policy show\n  roadbed policy schema"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="test|show|schema")
    test = actions.add_parser(
        "test", help="decide every case of policies/tests.yaml; exit code 1 when one does not hold"
    )
    test.add_argument("workspace", nargs="?", default=HERE, type=Path, help="the folder (default: this one)")
    test.add_argument("--json", action="store_true", help="print one JSON object")
    show = actions.add_parser("show", help="print the shipped policies")
    schema = actions.add_parser("schema", help="print what policies may speak of")
    for parser_of_one in (show, schema):
        parser_of_one.add_argument("--json", action="store_true", help="print one JSON object that holds the text")


def run(arguments: argparse.Namespace) -> int:
    """Needs no server and no key."""
    if arguments.action != "test":
        name, text = ("policies", default_text()) if arguments.action == "show" else ("schema", schema_text())
        if arguments.json:
            print_json({name: text})
        else:
            print(text, end="")
        return EXIT_OK
    results = run_cases(load_workspace(folder_of(arguments.workspace)))
    failed = [result for result in results if not result.holds]
    if arguments.json:
        print_json({"cases": len(results), "failed": [_as_object(result) for result in failed]})
    else:
        for result in failed:
            print(f"line {result.line}: {_words(result)}")
        print(f"{len(results) - len(failed)} of {len(results)} cases hold")
    return EXIT_FAILED if failed else EXIT_OK


def _as_object(result: CaseResult) -> dict[str, object]:
    decided = "allow" if result.is_allowed else "deny"
    case = result.case
    return {
        "line": result.line,
        "what": case.what,
        "expected": case.expect,
        "decided": decided,
        "policies": result.policies,
        "errors": result.errors,
    }


def _words(result: CaseResult) -> str:
    by = ", ".join(result.policies) or "no policy"
    failed = f"; it failed: {result.errors[0]}" if result.errors else ""
    decided = "allowed" if result.is_allowed else "denied"
    return f"{result.case.what} is {decided} by {by}, expected {result.case.expect}{failed}"
