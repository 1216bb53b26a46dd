"""``roadbed config``: what a key of the manifest means, and the manifest's JSON Schema for editors."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from roadbed.cli.connection import HERE, folder_of
from roadbed.cli.main import EXIT_OK
from roadbed.cli.output import print_json, print_table

SUMMARY = "Explain a key of roadbed.yaml, or print the JSON Schema of the whole file."
EXAMPLE = (
    "  roadbed config explain apps.helpdesk.deadline\n  roadbed config explain endpoints\n"
    "  roadbed config explain guard --workspace ./acme     the rules that hold, defaults too\n"
    "  roadbed config schema > roadbed.schema.json"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="explain|schema")
    explain = actions.add_parser("explain", help="say what a key means: type, default, bounds")
    explain.add_argument("key", help="a dotted key, a section, or the last word of a key")
    explain.add_argument("--json", action="store_true", help="print JSON")
    explain.add_argument(
        "--workspace", default=HERE, type=Path, help="for `guard`: the folder whose rules are shown (default: this one)"
    )
    schema = actions.add_parser("schema", help="print the JSON Schema of roadbed.yaml")
    schema.add_argument("--json", action="store_true", help="as without it: the schema is JSON")


def run(arguments: argparse.Namespace) -> int:
    """Needs no server."""
    from roadbed.releases.reference import find_settings, manifest_schema

    if arguments.action == "schema":
        print_json(manifest_schema())
        return EXIT_OK
    found = find_settings(arguments.key)
    rules = _guard_rules(folder_of(arguments.workspace)) if arguments.key == "guard" else []
    if arguments.json:
        settings = [dataclasses.asdict(setting) for setting in found]
        print_json({"settings": settings, "rules": rules} if rules else settings)
        return EXIT_OK
    for setting in found:
        bounds = f" ({setting.bounds})" if setting.bounds else ""
        default = "required" if setting.is_required else f"default: {setting.default}"
        print(f"{setting.path}: {setting.type.replace('`', '')}{bounds}, {default}")
        if setting.description:
            print(f"    {setting.description}")
    if rules:
        print("\nthe rules that hold here, the first that fits:")
        columns = ["rule", "find", "label", "sink", "team", "direction", "do"]
        print_table(columns, [[_cell(row[column]) for column in columns] for row in rules])
    return EXIT_OK


def _guard_rules(folder: Path) -> list[dict[str, Any]]:
    """The manifest's rules of the guard and the defaults after them; the defaults alone where there is no manifest."""
    from roadbed.guard.rules import RuleTable
    from roadbed.releases.workspace import MANIFEST_NAME, load_workspace

    is_here = (folder / MANIFEST_NAME).is_file()
    return list(RuleTable(load_workspace(folder).manifest.guard.rules if is_here else ()).rows())


def _cell(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
