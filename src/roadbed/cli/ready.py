"""``roadbed ready``: what stands between an app and production, with the command that mends each."""

from __future__ import annotations

import argparse

from roadbed.cli.connection import add_arguments, connect, escape
from roadbed.cli.main import EXIT_FAILED, EXIT_OK
from roadbed.cli.output import print_json, print_table

SUMMARY = "Say what stands between an app and production: each thing, and the line or command that mends it."
EXAMPLE = (
    "  roadbed ready helpdesk\n  roadbed ready helpdesk --json    # exit code 1 while something required is missing"
)
_SIGNS = {"ok": "ok", "missing": "MISSING", "unknown": "unknown"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("app", help="the app")
    add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Needs a key with the role auditor."""
    found = connect(arguments).call("GET", f"/api/ready/{escape(arguments.app)}")
    if arguments.json:
        print_json(found)
        return EXIT_OK if found["is_ready"] else EXIT_FAILED
    rows = [
        [_SIGNS[item["state"]] if item["is_required"] or item["state"] != "missing" else "advised", item["name"],
         item["found"], item["fix"]]
        for item in found["items"]
    ]  # fmt: skip
    print_table(["state", "what", "found", "mend it with"], rows)
    missing = sum(item["is_required"] and item["state"] == "missing" for item in found["items"])
    print(
        f"{arguments.app} is ready"
        if found["is_ready"]
        else f"{arguments.app} is not ready: {missing} required things are missing"
    )
    return EXIT_OK if found["is_ready"] else EXIT_FAILED
