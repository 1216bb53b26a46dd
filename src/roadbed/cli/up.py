"""``roadbed up``: run everything for one workspace."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import shutil
import sys
from pathlib import Path

from roadbed.cli.logs import configure_logging, report_loop_failure
from roadbed.cli.main import EXIT_OK
from roadbed.kernel.secrets import Secret
from roadbed.server.settings import ADMIN_KEY_VARIABLE, PORT_DEFAULT, Settings, database_of, default_state

SUMMARY = "Run a workspace: database, ingest, API and console in one. A folder without roadbed.yaml works too."
PROGRAM = "roadbed"
EXAMPLE = (
    "  roadbed up ~/documents\n  roadbed up . --port 0 --ready-file /tmp/ready.json\n"
    "  roadbed up . --database postgresql://user@db/app --host 0.0.0.0 --behind-proxy"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("workspace", nargs="?", default=".", type=Path, help="the folder (default: this one)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=PORT_DEFAULT, help=f"default: {PORT_DEFAULT}; 0 takes a free one")
    parser.add_argument("--state", type=Path, help="folder of the database and all that is not in git")
    parser.add_argument("--database", help="URL of a managed PostgreSQL with pgvector, or env:NAME (default: embedded)")
    parser.add_argument("--schema", default="", help="schema in it (default: from the workspace's name)")
    parser.add_argument("--migrate", choices=["auto", "check"], help="default: auto when embedded, else check")
    parser.add_argument("--workers", type=int, default=1, help="serving processes (default: 1; at most 64)")
    parser.add_argument("--tls-cert", type=Path, help="certificate chain, PEM")
    parser.add_argument("--tls-key", type=Path, help="its key, PEM")
    parser.add_argument("--tls-client-ca", type=Path, help="authorities of clients' certificates, PEM")
    parser.add_argument("--tls-client-crl", type=Path, help="these authorities' lists of revoked certificates, PEM")
    parser.add_argument("--tls-client-required", action="store_true", help="refuse clients without a certificate")
    parser.add_argument("--behind-proxy", action="store_true", help="a proxy in front ends TLS")
    parser.add_argument("--ready-file", type=Path, help="written as JSON when the first ingest is done")
    parser.add_argument(
        "--log-level",
        choices=["debug", "info", "warning", "error"],
        default="warning",
        help="what is logged to standard error (default: warning)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Returns when it was stopped."""
    from roadbed.server.up import up
    from roadbed.wire.direct import new_loop

    async def run_up() -> None:
        asyncio.get_running_loop().set_exception_handler(report_loop_failure)
        worker = [sys.executable, "-P", "-m", "roadbed.cli.serve_worker", "--log-level", arguments.log_level]
        await up(settings_of(arguments), lambda line: print(line, flush=True), worker)

    configure_logging(arguments.log_level)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run_up())
    return EXIT_OK


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The settings that the flags and the environment say."""
    admin_key = os.environ.get(ADMIN_KEY_VARIABLE)
    database = database_of(arguments.database)
    return Settings(
        workspace=arguments.workspace,
        state=(arguments.state or default_state(arguments.workspace)).expanduser().absolute(),
        host=arguments.host,
        port=arguments.port,
        database=database,
        schema=arguments.schema,
        migrate=arguments.migrate or ("check" if database else "auto"),
        workers=arguments.workers,
        tls_cert=arguments.tls_cert,
        tls_key=arguments.tls_key,
        tls_client_ca=arguments.tls_client_ca,
        tls_client_crl=arguments.tls_client_crl,
        tls_client_required=arguments.tls_client_required,
        behind_proxy=arguments.behind_proxy,
        ready_file=arguments.ready_file,
        admin_key=Secret(admin_key) if admin_key else None,
        program=program_name(sys.argv[0], shutil.which(PROGRAM)),
    )


def program_name(called: str, found: str | None) -> str:
    """What starts the command line from here: ``make up`` runs it out of a virtual environment that is on no path."""
    return shlex.quote(called) if found is None and Path(called).name == PROGRAM else PROGRAM
