"""``roadbed cards``: cards of models, apps and data, made from what runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from roadbed.cli.connection import add_arguments, connect
from roadbed.cli.main import EXIT_OK
from roadbed.cli.output import print_json

SUMMARY = "Write a Markdown card for each model, app and collection, from what runs."
EXAMPLE = "  roadbed cards --out cards"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("--out", type=Path, default=Path("cards"), help="the folder (default: cards)")
    add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Needs a key with the role auditor."""
    found = connect(arguments).call("GET", "/api/governance")
    if arguments.json:
        print_json(found["register"])
        return EXIT_OK
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, text in found["cards"].items():
        (arguments.out / Path(name).name).write_text(text, encoding="utf-8")
    print(f"wrote {len(found['cards'])} cards into {arguments.out}")
    return EXIT_OK
