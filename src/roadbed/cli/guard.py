"""``roadbed guard scan``: what the guard finds in a file, here and without a server."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from roadbed.cli.connection import HERE, folder_of
from roadbed.cli.main import EXIT_NOTHING_FOUND, EXIT_OK
from roadbed.cli.output import print_json
from roadbed.guard.gate import Guard
from roadbed.guard.scan import SCAN_BYTES_MAX, scan_report
from roadbed.kernel.errors import NotFound
from roadbed.releases.workspace import MANIFEST_NAME, load_workspace

SUMMARY = "Say where personal data and secrets stand in a text. Values are never printed."
EXAMPLE = "  roadbed guard scan letter.txt\n  git diff | roadbed guard scan - --json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("action", choices=["scan"], help="look through a text")
    parser.add_argument("file", nargs="?", default="-", help="a UTF-8 text; - is standard input (default)")
    parser.add_argument(
        "--workspace", default=HERE, type=Path, help="whose guard settings apply (default: this folder)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Exit 0 with findings, 6 when nothing was found."""
    report = scan_report(_guard_of(folder_of(arguments.workspace)), _bytes_of(arguments.file))
    if arguments.json:
        print_json(msgspec.to_builtins(report))
    else:
        for span in report.findings:
            print(f"{span.start:>8}-{span.end:<8} {span.type:<12} {span.rule} ({span.confidence:.2f})")
        print(f"{len(report.findings)} found in {report.characters} characters, by {report.engine}")
        for name in report.missing:
            print(f"not asked: {name}", file=sys.stderr)
    return EXIT_OK if report.findings else EXIT_NOTHING_FOUND


def _guard_of(folder: Path) -> Guard:
    if not (folder / MANIFEST_NAME).is_file():
        return Guard.open()
    manifest = load_workspace(folder).manifest
    return Guard.open(None, manifest.guard, manifest.teams, folder=folder)


def _bytes_of(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read(SCAN_BYTES_MAX + 1)
    try:
        with open(name, "rb") as file:
            return file.read(SCAN_BYTES_MAX + 1)
    except OSError as error:
        raise NotFound(
            f"{name} cannot be read: {error.strerror}", hint="name a file, or give the text on standard input with -"
        ) from None
