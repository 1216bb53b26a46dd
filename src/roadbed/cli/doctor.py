"""``roadbed doctor``: what on this machine keeps a workspace from running, and how to mend it."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from roadbed.cli.connection import HERE, folder_of
from roadbed.cli.main import EXIT_FAILED, EXIT_OK
from roadbed.cli.output import print_json
from roadbed.server.settings import PORT_DEFAULT, Settings, database_of, default_state

SUMMARY = "Check ports, disk, state, PostgreSQL, models, engines and keys, and say how to fix what is wrong."
EXAMPLE = "  roadbed doctor\n  roadbed doctor ~/acme --port 9000 --json"
MARKS = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("workspace", nargs="?", default=HERE, type=Path, help="the folder (default: this one)")
    parser.add_argument("--state", type=Path, help="its state folder, when it is started with --state")
    parser.add_argument("--database", help="URL of a managed PostgreSQL, or env:NAME, when it is started with one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=PORT_DEFAULT, help=f"port to listen on (default: {PORT_DEFAULT})")
    parser.add_argument("--tls-client-ca", type=Path, help="authorities of clients' certificates, PEM")
    parser.add_argument("--tls-client-crl", type=Path, help="these authorities' lists of revoked certificates, PEM")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Exit 0 when nothing is wrong, else 1. Needs no server, and asks one that runs."""
    from roadbed.server.doctor import examine

    workspace = arguments.workspace if arguments.state else folder_of(arguments.workspace)
    state = (arguments.state or default_state(workspace)).expanduser().absolute()
    settings = Settings(
        workspace=workspace,
        state=state,
        database=database_of(arguments.database),
        host=arguments.host,
        port=arguments.port,
        tls_client_ca=arguments.tls_client_ca,
        tls_client_crl=arguments.tls_client_crl,
    )
    checks = examine(settings)
    if arguments.json:
        print_json([dataclasses.asdict(check) for check in checks])
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            print(f"{MARKS[check.verdict]}  {check.name:<{width}}  {check.message}")
            if check.fix and check.verdict != "ok":
                print(f"       {'':<{width}}  -> {check.fix}")
    return EXIT_FAILED if any(check.verdict == "wrong" for check in checks) else EXIT_OK
