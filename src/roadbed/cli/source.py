"""``roadbed source``: a database becomes a source of the manifest: asked for, tried, and written; with what callers
store for sources of their own (``source_credential.py``).
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import sys
from pathlib import Path
from typing import Any

from roadbed.cli import source_credential
from roadbed.cli.connection import HERE, connect, folder_of
from roadbed.cli.main import EXIT_OK
from roadbed.cli.models import replace_file
from roadbed.cli.output import print_json
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import ConfigError, RoadbedError

SUMMARY = "Add a database to roadbed.yaml, tried first, with the grants of a role that only reads; store credentials."
EXAMPLE = (
    "  roadbed source add                                  asks for everything\n"
    "  roadbed source add --type postgres --name crm --dsn env:CRM_DSN --explore\n"
    "  roadbed source add --type sqlite --name prices --path data/prices.sqlite --yes\n"
    "  roadbed source credential set crm                   stores your own credential, from standard input\n"
    "  roadbed source credential list\n  roadbed source credential remove crm"
)
KINDS = ("postgres", "mysql", "sqlite", "duckdb")
PROBE_S = 10.0
TABLES_SHOWN = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments; what is left out is asked for."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="add|credential")
    source_credential.configure(actions.add_parser("credential", help="your own credential for a source"))
    add = actions.add_parser("add", help="add a database, and show the change")
    add.add_argument("--type", choices=KINDS, help="which kind of database")
    add.add_argument("--name", help="what it is called here")
    add.add_argument("--dsn", help="for postgres and mysql: env:NAME or file:PATH, which holds the connection string")
    add.add_argument("--path", help="for sqlite and duckdb: the file, relative to the workspace")
    add.add_argument("--labels", help="classification of what it holds, with commas between (default: internal)")
    add.add_argument("--teams", help="teams that may see it, with commas between (default: all)")
    explore = add.add_mutually_exclusive_group()
    explore.add_argument("--explore", action="store_true", default=None, help="give tools for free, checked SQL")
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
    found = {} if arguments.no_probe else asyncio.run(_probe(folder, name, workspace.manifest.sources))
    diff = "".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), str(path), str(path), n=2)).rstrip()
    if not arguments.only_print:
        replace_file(path, new)
    if arguments.json:
        print_json({"path": str(path), "source": name, "diff": diff, "is_written": not arguments.only_print, **found})
        return EXIT_OK
    print(diff)
    _say(name, found)
    return EXIT_OK


def _answers(arguments: argparse.Namespace) -> tuple[str, dict[str, object]]:
    """The source's name and settings, from the flags, and from a person where they are silent."""
    kind = arguments.type or _ask(arguments, f"kind of database ({', '.join(KINDS)})", "postgres", "--type")
    if kind not in KINDS:
        raise ConfigError(f"there is no kind {kind[:40]!r}", hint=f"one of {', '.join(KINDS)}")
    name = arguments.name or _ask(arguments, "name of the source", "", "--name")
    settings: dict[str, object] = {"type": kind}
    if kind in ("postgres", "mysql"):
        settings["dsn"] = arguments.dsn or _ask(
            arguments, "reference to its connection string (env:NAME or file:PATH)", f"env:{name.upper()}_DSN", "--dsn"
        )
    else:
        settings["path"] = arguments.path or _ask(arguments, "the file, relative to the workspace", "", "--path")
    labels = arguments.labels or _ask(arguments, "labels of what it holds", "internal", "--labels")
    settings["labels"] = _words(labels)
    teams = (
        arguments.teams
        if arguments.teams is not None or arguments.yes
        else _ask(arguments, "teams that may see it (empty: all)", "-", "--teams")
    )
    if teams and teams != "-":
        settings["visible_to"] = _words(teams)
    explore = arguments.explore
    if explore is None:
        answer = _ask(arguments, "may people and models run checked reading SQL on it (yes or no)", "no", "--explore")
        explore = answer.lower().startswith("y")
    if explore:
        settings["explore"] = True
    return name, settings


def _ask(arguments: argparse.Namespace, question: str, default: str, flag: str) -> str:
    if not arguments.yes and sys.stdin.isatty():
        print(f"{question}{f' [{default}]' if default else ''}: ", end="", file=sys.stderr, flush=True)
        given = sys.stdin.readline().strip()
        if given:
            return given
    if not default:
        raise ConfigError(f"{flag} is missing", hint=f"give {flag}: {question}")
    return default


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


async def _probe(folder: Path, name: str, declared: Any) -> dict[str, Any]:
    """What a first look at the source tells: its tables, and what its role may do too much."""
    from roadbed.sources.registry import Sources

    sources = Sources(folder, None)
    deadline = Deadline.after(PROBE_S)
    try:
        await sources.use({name: declared[name]})
        catalogue = await sources.catalogue(name, deadline)
        warnings = [warned for health in sources.states() for warned in health.warnings]
        return {
            "is_reachable": True,
            "tables": sorted(catalogue.tables),
            "warnings": [warned.message for warned in warnings],
            "fix": [line for warned in warnings for line in warned.fix],
        }
    except RoadbedError as error:
        return {"is_reachable": False, "problem": error.message, "hint": error.hint}
    finally:
        await sources.close()


def _say(name: str, found: dict[str, Any]) -> None:
    if not found:
        return
    if not found["is_reachable"]:
        print(f"\n{name} was not reached: {found['problem']}" + (f" ({found['hint']})" if found["hint"] else ""))
        return
    tables = found["tables"]
    shown = ", ".join(tables[:TABLES_SHOWN]) + (", …" if len(tables) > TABLES_SHOWN else "")
    print(f"\n{name} answers; {len(tables)} {'table' if len(tables) == 1 else 'tables'} to read: {shown or 'none'}")
    for warning in found["warnings"]:
        print(f"\n{warning}, so that no tool is run with it. Statements that make a role which only reads:\n")
    for line in found["fix"]:
        print(f"  {line}")
