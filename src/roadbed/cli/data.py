"""``roadbed data synth``: rows and documents like a source's, without a value of it."""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from roadbed.cli.connection import HERE, folder_of
from roadbed.cli.main import EXIT_OK
from roadbed.cli.output import print_json
from roadbed.guard.gate import Guard
from roadbed.guard.personas import kind_of_text, made_value, rewritten
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import ConfigError
from roadbed.releases.manifest import Manifest
from roadbed.sources.manifest import DatabaseSource, FilesSource
from roadbed.sources.sampled import sampled_tables
from roadbed.sources.synthetic import Table, synthesise

SUMMARY = "Make rows and documents of the same shape as a source's, without a real value, to try things with."
EXAMPLE = (
    "  roadbed data synth crm --out trial\n  roadbed data synth crm --rows 500 --seed 7 --json\n"
    "  roadbed data synth handbook --out trial"
)
SAMPLE_ROWS_MAX: Final = 10_000
ROWS_MAX: Final = 1_000_000
TABLES_MAX: Final = 200
FILES_MAX: Final = 10_000
READ_S: Final = 120.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="synth")
    synth = actions.add_parser("synth", help="make data like a source's")
    synth.add_argument("source", help="a source of the manifest: a database, or a folder of documents")
    synth.add_argument(
        "--rows", type=int, help=f"rows of each table (default: as many as sampled, {SAMPLE_ROWS_MAX} at most)"
    )
    synth.add_argument("--out", type=Path, help="a new or empty folder (default: synthetic/SOURCE)")
    synth.add_argument("--seed", type=int, default=0, help="the same seed makes the same data (default: 0)")
    synth.add_argument("--workspace", default=HERE, type=Path, help="the folder of roadbed.yaml (default: this one)")
    synth.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Needs no server; only reads the source."""
    from roadbed.releases.workspace import load_workspace

    folder = folder_of(arguments.workspace).expanduser().resolve()
    manifest = load_workspace(folder).manifest
    source = manifest.sources.get(arguments.source)
    if source is None:
        known = ", ".join(sorted(manifest.sources)) or "none"
        raise ConfigError(f"there is no source {arguments.source!r}", hint=f"sources: {known}")
    if arguments.rows is not None and not 0 <= arguments.rows <= ROWS_MAX:
        raise ConfigError(f"--rows is a number from 0 to {ROWS_MAX}")
    out = arguments.out or Path("synthetic") / arguments.source
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty", hint="name a new folder with --out")
    guard = Guard.open(None, manifest.guard, manifest.teams, folder=folder)
    if isinstance(source, DatabaseSource):
        made = asyncio.run(_database(folder, manifest, arguments.source, guard, arguments.rows, arguments.seed, out))
    elif isinstance(source, FilesSource):
        made = _documents(folder / source.path, source, guard, arguments.seed, out)
    else:
        raise ConfigError(f"{arguments.source} is neither a database nor a folder", hint="name another source")
    if arguments.json:
        print_json({"source": arguments.source, "out": str(out), "seed": arguments.seed, **made})
    else:
        for name, count in made["made"].items():
            print(f"{name}: {count}")
        for name in made.get("left_out", ()):
            print(f"left out: {name}")
    return EXIT_OK


async def _database(
    folder: Path, manifest: Manifest, name: str, guard: Guard, rows: int | None, seed: int, out: Path
) -> dict[str, Any]:
    """One CSV file for each table, and their columns in ``schema.json``."""
    from roadbed.sources.registry import Sources

    sources = Sources(folder, None)
    await sources.use(manifest.sources)
    try:
        tables, columns = await sampled_tables(
            sources, name, Deadline.after(READ_S), tables_max=TABLES_MAX, rows_max=SAMPLE_ROWS_MAX
        )
    finally:
        await sources.close()
    made = synthesise(tables, rows, seed, make=made_value, kind_of=partial(kind_of_text, guard))
    await asyncio.to_thread(_write, out, tables, made, columns)
    left_out = [f"{table}: over {TABLES_MAX} tables" for table in sorted(columns)[TABLES_MAX:]]
    return {"made": {f"{table}.csv": len(rows) for table, rows in made.items()}, "left_out": left_out}


def _write(out: Path, tables: list[Table], made: Mapping[str, list[list[Any]]], schema: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "schema.json").write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")
    for table in tables:
        with (out / f"{table.name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table.columns)
            writer.writerows(["" if value is None else value for value in row] for row in made[table.name])


def _documents(folder: Path, source: FilesSource, guard: Guard, seed: int, out: Path) -> dict[str, Any]:
    """Every document as text, with made-up people in it; its name is made up, too."""
    from roadbed.knowledge.connectors.connector import Listed
    from roadbed.knowledge.connectors.files import FilesConnector
    from roadbed.knowledge.parse.dispatch import parse_bytes
    from roadbed.knowledge.parse.document import ParseFailure

    connector = FilesConnector(folder, include=source.include, exclude=source.exclude, bytes_max=source.bytes_max)
    chance = random.Random(seed)
    known: dict[tuple[str, str], str] = {}
    left_out: list[str] = []

    async def listed() -> list[str]:
        return [item.key async for page in connector.listing() for item in page if isinstance(item, Listed)]

    keys = asyncio.run(listed())
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    for key in keys[:FILES_MAX]:
        try:
            parsed = parse_bytes((folder / key).read_bytes(), name=key)
        except (ParseFailure, OSError):
            left_out.append(rewritten(guard, key, chance, known))
            continue
        count += 1
        text = rewritten(guard, parsed.text, chance, known)
        (out / f"document-{count:05d}.md").write_text(text + "\n", encoding="utf-8")
    left_out += [f"{len(keys) - FILES_MAX} more documents"] if len(keys) > FILES_MAX else []
    return {"made": {"documents": count}, "left_out": left_out}
