"""``roadbed check``: validate a workspace without starting anything."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from roadbed.cli.connection import HERE, folder_of
from roadbed.cli.main import EXIT_CONFIG, EXIT_OK, report
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.wording import counted
from roadbed.releases.workspace import load_workspace

SUMMARY = "Validate a workspace: keys, types, files and names, each error with its line."
EXAMPLE = "  roadbed check                   the workspace in this folder\n  roadbed check ~/acme --json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("workspace", nargs="?", default=HERE, type=Path, help="the folder (default: this one)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Exit 0 when the workspace is valid, 3 when it is not."""
    try:
        workspace = load_workspace(folder_of(arguments.workspace))
    except ConfigError as error:
        if arguments.json:
            errors = [error, *error.others]
            rows = [{"file": e.file, "line": e.line, "message": e.message, "hint": e.hint} for e in errors]
            print(json.dumps({"valid": False, "errors": rows}, indent=2))
        else:
            report(error)
        return EXIT_CONFIG
    manifest = workspace.manifest
    counts = {
        "sources": len(manifest.sources),
        "collections": len(manifest.collections),
        "apps": len(manifest.apps),
        "models": len(manifest.models),
    }
    if arguments.json:
        facts = {"valid": True, "name": manifest.name, "inferred": workspace.is_inferred, **counts}
        print(json.dumps({**facts, "notes": workspace.notes()}, indent=2))
    else:
        words = ", ".join(counted(count, noun.removesuffix("s")) for noun, count in counts.items())
        origin = "no roadbed.yaml, so the defaults apply" if workspace.is_inferred else "roadbed.yaml is valid"
        print(f"{manifest.name}: {origin} ({words})")
        for note in workspace.notes():
            print(f"note: {note}")
    return EXIT_OK
