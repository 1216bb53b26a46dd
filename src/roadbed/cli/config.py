"""``roadbed config``: what a key of the manifest means, and the manifest's JSON Schema for editors."""

from __future__ import annotations

import argparse
import dataclasses

from roadbed.cli.main import EXIT_OK
from roadbed.cli.output import print_json

SUMMARY = "Explain a key of roadbed.yaml, or print the JSON Schema of the whole file."
EXAMPLE = (
    "  roadbed config explain apps.helpdesk.deadline\n  roadbed config explain endpoints\n"
    "  roadbed config schema > roadbed.schema.json"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="explain|schema")
    explain = actions.add_parser("explain", help="say what a key means: type, default, bounds")
    explain.add_argument("key", help="a dotted key, a section, or the last word of a key")
    explain.add_argument("--json", action="store_true", help="print JSON")
    actions.add_parser("schema", help="print the JSON Schema of roadbed.yaml")


def run(arguments: argparse.Namespace) -> int:
    """Needs no server."""
    from roadbed.releases.reference import find_settings, manifest_schema

    if arguments.action == "schema":
        print_json(manifest_schema())
        return EXIT_OK
    found = find_settings(arguments.key)
    if arguments.json:
        print_json([dataclasses.asdict(setting) for setting in found])
        return EXIT_OK
    for setting in found:
        bounds = f" ({setting.bounds})" if setting.bounds else ""
        default = "required" if setting.is_required else f"default: {setting.default}"
        print(f"{setting.path}: {setting.type.replace('`', '')}{bounds}, {default}")
        if setting.description:
            print(f"    {setting.description}")
    return EXIT_OK
