"""``roadbed ingest``: read what changed now, and watch it being done."""

from __future__ import annotations

import argparse
import time
from datetime import datetime
from typing import Any

from roadbed.cli.connection import Server, add_arguments, connect
from roadbed.cli.main import EXIT_FAILED, EXIT_OK
from roadbed.cli.output import Progress, print_json, print_table

SUMMARY = "Read changed documents now. Sources are watched anyway; this shows progress and every failure."
EXAMPLE = "  roadbed ingest\n  roadbed ingest handbook --no-wait"
POLL_S = 0.3


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("source", nargs="?", help="only this source")
    parser.add_argument("--no-wait", action="store_true", help="start it and return")
    add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit 0 when every document was read or listed with a reason; 1 when a source has a problem."""
    server = connect(arguments)
    started = server.call("POST", "/api/ingest", {"source": arguments.source})
    if arguments.no_wait:
        states = _with_documents(server)
    else:
        states = _wait(server, arguments.source, datetime.fromisoformat(started["asked_at"]))
    if arguments.source:
        states = [state for state in states if state["name"] == arguments.source]
    if arguments.json:
        print_json(states)
    else:
        rows = [[s["name"], s["indexed"], s["failed"], s["pending"], s["problem"] or ""] for s in states]
        print_table(["source", "indexed", "failed", "pending", "problem"], rows)
        for state in states:
            if state["outdated"]:
                print(f"  {state['name']}: {state['outdated']} to be read again since the upgrade, in the background")
            for failure in state["failures"]:
                print(f"  {state['name']}: {failure['document']}: {failure['reason']}: {failure['message']}")
    return EXIT_FAILED if any(state["problem"] for state in states) else EXIT_OK


def _wait(server: Server, source: str | None, asked_at: datetime) -> list[dict[str, Any]]:
    """Follow the sources until each was listed since it was asked for, and read to its end."""
    progress = Progress()
    while True:
        states = _with_documents(server)
        waiting = [s for s in states if source in (None, s["name"]) and not is_done(s, asked_at)]
        if not waiting:
            progress.end()
            return states
        progress.show("  ".join(describe(state) for state in waiting))
        time.sleep(POLL_S)


def _with_documents(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.call("GET", "/api/sources")
    return [state for state in found if state["state"] != "tools"]  # those have nothing to list


def is_done(state: dict[str, Any], asked_at: datetime) -> bool:
    """Whether a listing that began after ``asked_at`` has ended, well or not, and no document waits to be read."""
    began = state["attempted_at"]
    if began is None or datetime.fromisoformat(began) < asked_at:
        return False
    return state["state"] == "failed" or not state["pending"]


def describe(state: dict[str, Any]) -> str:
    """One source's progress in words: ``handbook 120/883 (14/s, 54 s left)``."""
    done, listed = state["indexed"] + state["failed"], state["documents"]
    rate = state.get("rate_per_s") or 0.0
    left = f", {(listed - done) / rate:.0f} s left" if rate and listed > done else ""
    return f"{state['name']} {done}/{listed}" + (f" ({rate:.0f}/s{left})" if rate else "")
