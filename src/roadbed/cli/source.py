"""``roadbed source``: a system becomes a source of the manifest: asked for, tried, and written (``source_kinds.py``);
with what callers store for sources of their own (``source_credential.py``).
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import sys
from pathlib import Path

from roadbed.cli import source_credential
from roadbed.cli.connection import HERE, connect, folder_of
from roadbed.cli.main import EXIT_OK
from roadbed.cli.models import replace_file
from roadbed.cli.output import print_json
from roadbed.cli.source_kinds import DATABASES, KINDS, lines_of, look_at, settings_of, words
from roadbed.kernel.errors import ConfigError

SUMMARY = "Add a source to roadbed.yaml, tried first, with the grants of a role that only reads; store credentials."
EXAMPLE = (
    "  roadbed source add                                  asks for everything\n"
    "  roadbed source add --type postgres --name crm --dsn env:CRM_DSN --explore\n"
    "  roadbed source add --type sqlite --name prices --path data/prices.sqlite --yes\n"
    "  roadbed source add --type http --name desk --url https://desk.example/api --openapi desk.yaml\n"
    "  roadbed source add --type mcp --name notes --command 'notes-server --readonly'\n"
    "  roadbed source credential set crm                   stores your own credential, from standard input\n"
    "  roadbed source credential list\n  roadbed source credential remove crm"
)
EXPLORED = {
    **dict.fromkeys(DATABASES, "may people and models run checked reading SQL on it"),
    "files": "may people and models list, read and search its files",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments; what is left out is asked for."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="add|credential")
    source_credential.configure(actions.add_parser("credential", help="your own credential for a source"))
    add = actions.add_parser("add", help="add a source, and show the change")
    add.add_argument("--type", choices=KINDS, help="which kind of source")
    add.add_argument("--name", help="what it is called here")
    add.add_argument("--dsn", help="for postgres and mysql: env:NAME or file:PATH, which holds the connection string")
    add.add_argument("--path", help="for sqlite, duckdb and files: the file or folder, from the workspace")
    add.add_argument("--url", help="for http, objects and mcp: its address")
    add.add_argument("--openapi", help="for http: its OpenAPI document, a file of the workspace")
    add.add_argument("--operations", help="for http: operationIds that become tools, with commas between")
    add.add_argument("--private", action="store_true", help="for http: its host stands in a private network")
    add.add_argument("--endpoint", help="for objects: address of an S3-compatible server (default: Amazon's)")
    add.add_argument("--key", help="for http, objects and mcp: env:NAME or file:PATH, which holds the key or token")
    add.add_argument("--secret", help="for objects: env:NAME or file:PATH, which holds the key's secret")
    add.add_argument("--command", help="for mcp: program and arguments of a server on standard input and output")
    add.add_argument("--labels", help="classification of what it holds, with commas between (default: internal)")
    add.add_argument("--teams", help="teams that may see it, with commas between (default: all)")
    explore = add.add_mutually_exclusive_group()
    explore.add_argument(
        "--explore", action="store_true", default=None, help="give tools for checked SQL, or for files"
    )
    explore.add_argument("--no-explore", action="store_false", dest="explore", help="declared tools alone")
    add.add_argument("--workspace", default=HERE, type=Path, help="the folder of roadbed.yaml (default: this one)")
    add.add_argument("--yes", action="store_true", help="ask nothing: what is left out has its default")
    add.add_argument("--no-probe", action="store_true", help="do not connect to it")
    add.add_argument("--print", action="store_true", dest="only_print", help="show the change, write nothing")
    add.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """`add` changes the file, which a running server follows; the rest is asked of the server."""
    if arguments.action == "credential":
        return source_credential.run(connect(arguments), arguments)
    from roadbed.releases.edit_source import add_source
    from roadbed.releases.workspace import MANIFEST_NAME, infer_manifest, load_workspace

    folder = folder_of(arguments.workspace).expanduser().resolve()
    before = load_workspace(folder)
    path = folder / MANIFEST_NAME
    old = infer_manifest(folder) if before.is_inferred else path.read_text(encoding="utf-8")
    name, settings = _answers(arguments)
    new = add_source(old, name, settings, comment="Added by `roadbed source add`.")
    workspace = load_workspace(folder, new)
    found = {} if arguments.no_probe else asyncio.run(look_at(folder, name, workspace.manifest.sources))
    diff = "".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), str(path), str(path), n=2)).rstrip()
    if not arguments.only_print:
        replace_file(path, new)
    if arguments.json:
        print_json({"path": str(path), "source": name, "diff": diff, "is_written": not arguments.only_print, **found})
        return EXIT_OK
    print(diff)
    if found:
        print("", *lines_of(name, found), sep="\n")
    return EXIT_OK


def _answers(arguments: argparse.Namespace) -> tuple[str, dict[str, object]]:
    """The source's name and settings, from the flags, and from a person where they are silent."""

    def ask(question: str, default: str, flag: str) -> str:
        return _ask(arguments, question, default, flag)

    kind = arguments.type or ask(f"kind of source ({', '.join(KINDS)})", "postgres", "--type")
    if kind not in KINDS:
        raise ConfigError(f"there is no kind {kind[:40]!r}", hint=f"one of {', '.join(KINDS)}")
    name = arguments.name or ask("name of the source", "", "--name")
    settings: dict[str, object] = {"type": kind, **settings_of(kind, name, arguments, ask)}
    settings["labels"] = words(arguments.labels or ask("labels of what it holds", "internal", "--labels"))
    teams = arguments.teams
    if teams is None:
        teams = ask("teams that may see it (empty: all)", "-", "--teams")
    if teams and teams != "-":
        settings["visible_to"] = words(teams)
    explore = arguments.explore
    if explore is None and kind in EXPLORED:
        explore = ask(f"{EXPLORED[kind]} (yes or no)", "no", "--explore").lower().startswith("y")
    if explore and kind in EXPLORED:
        settings["explore"] = True
    return name, settings


def _ask(arguments: argparse.Namespace, question: str, default: str, flag: str) -> str:
    if not arguments.yes and sys.stdin.isatty():
        shown = f" [{default}]" if default not in ("", "-") else ""
        print(f"{question}{shown}: ", end="", file=sys.stderr, flush=True)
        given = sys.stdin.readline().strip()
        if given:
            return given
    if not default:
        raise ConfigError(f"{flag} is missing", hint=f"give {flag}: {question}")
    return default
