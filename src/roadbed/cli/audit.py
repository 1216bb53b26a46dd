"""``roadbed audit``: verify, export, query the tamper-evident record, and say where it stands."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from roadbed.cli.connection import Server, add_arguments, connect
from roadbed.cli.main import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from roadbed.cli.output import print_json, print_table
from roadbed.ledger.audit_verify import AuditInvalid, copies_of, describe, read_keys, verify_export

SUMMARY = "Verify, export and query the tamper-evident record of acts and decisions."
EXAMPLE = (
    "  roadbed audit head\n  roadbed audit verify --key roadbed.pub --witness /mnt/auditor\n"
    "  roadbed audit export --from 2026-11-01 --to 2026-12-01 --out november\n"
    "  roadbed audit verify november --key roadbed.pub --witness /mnt/auditor --part\n"
    "  roadbed audit query --what 'keys.*' --from 2026-11-01\n"
    "  roadbed audit rotate-key"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="verify|export|query|head|rotate-key")
    verify = actions.add_parser("verify", help="verify an export, or the log of a running server")
    verify.add_argument("folder", nargs="?", type=Path, help="an export (default: a fresh one of the server's log)")
    verify.add_argument(
        "--key", action="append", help="a public key, or a file of some (default: what the server says)"
    )
    verify.add_argument("--witness", type=Path, help="a folder of checkpoints that were shipped to a second place")
    verify.add_argument("--part", action="store_true", help="the export ends before the log: copies may extend it")
    verify.add_argument("--jobs", type=int, metavar="N", help="processes that scan it (default: one for each core)")
    add_arguments(verify)
    export = actions.add_parser("export", help="write whole checkpoints of the log into a folder")
    export.add_argument("--from", dest="start", help="a day or a time (UTC)")
    export.add_argument("--to", dest="end", help="a day or a time (UTC)")
    export.add_argument("--out", required=True, type=Path, help="a folder that does not exist yet")
    add_arguments(export)
    query = actions.add_parser("query", help="list records, newest first")
    query.add_argument("--actor", help="a key's id, or a pseudonym")
    query.add_argument("--what", help="an action, for example keys.rotate, or keys.*", dest="what", metavar="ACTION")
    query.add_argument("--break-glass", metavar="ID", help="what was done under a use of break-glass")
    query.add_argument("--acts", action="store_true", help="privileged acts alone, no requests")
    query.add_argument("--from", dest="start", help="a day or a time (UTC)")
    query.add_argument("--to", dest="end", help="a day or a time (UTC)")
    query.add_argument("--limit", type=int, default=50, help="how many at most (default: 50)")
    add_arguments(query)
    add_arguments(actions.add_parser("rotate-key", help="go over to another signing key"))
    add_arguments(actions.add_parser("head", help="the last checkpoint, its copies, and the public key"))


def run(arguments: argparse.Namespace) -> int:
    """Needs a key with the role auditor; `verify FOLDER --key KEY` needs no server."""
    if arguments.action == "verify":
        return _verify(arguments)
    server = connect(arguments)
    if arguments.action == "export":
        if arguments.out.exists():
            print(f"roadbed: {arguments.out} exists already; name a folder that does not", file=sys.stderr)
            return EXIT_USAGE
        files = _export(server, arguments.out, arguments.start, arguments.end)
        print_json({"folder": str(arguments.out), "files": files}) if arguments.json else print(
            f"wrote {arguments.out}"
        )
    elif arguments.action == "query":
        _query(server, arguments)
    elif arguments.action == "rotate-key":
        done = server.call("POST", "/api/audit/rotate-key")
        print_json(done) if arguments.json else print(_describe_rotation(done))
    else:
        head = server.call("GET", "/api/audit/head")
        print_json(head) if arguments.json else print(_describe_head(head))
    return EXIT_OK


def _verify(arguments: argparse.Namespace) -> int:
    try:
        keys = [key for text in arguments.key or () for key in read_keys(text)]
        # Before the log is read: each of these copies is of a checkpoint that it then holds.
        copies = copies_of(arguments.witness) if arguments.witness is not None else None
        if arguments.folder is not None:
            if not keys:
                print("roadbed: name the public key with --key; `roadbed audit head` prints it", file=sys.stderr)
                return EXIT_USAGE
            report = verify_export(arguments.folder, keys, copies, is_part=arguments.part, processes=arguments.jobs)
        else:
            server = connect(arguments)
            if not keys:
                keys = read_keys(server.call("GET", "/api/audit/head")["key"])
                print("the key is the server's own word; keep a copy of it elsewhere and give --key", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="roadbed-audit-") as name:
                _export(server, Path(name) / "export", None, None)
                report = verify_export(Path(name) / "export", keys, copies, processes=arguments.jobs)
    except AuditInvalid as error:
        print(f"roadbed: not verified: {error}", file=sys.stderr)
        return EXIT_FAILED
    print_json(report.summary()) if arguments.json else print(describe(report))
    return EXIT_OK if report.is_whole else EXIT_FAILED


def _export(server: Server, folder: Path, start: str | None, end: str | None) -> list[str]:
    """Write an export as the server sends it; the names of its files."""
    folder.mkdir(parents=True)
    names: list[str] = []
    for entry in server.lines("/api/audit/export", **{"from": start, "to": end}):
        name = Path(str(entry["file"])).name
        with (folder / name).open("ab") as file:
            file.write(str(entry["text"]).encode())
        if name not in names:
            names.append(name)
    return names


def _query(server: Server, arguments: argparse.Namespace) -> None:
    query = {"actor": arguments.actor, "action": arguments.what, "from": arguments.start, "to": arguments.end}
    query |= {"break_glass": arguments.break_glass, "acts": "true" if arguments.acts else None}
    found = server.call("GET", "/api/audit", limit=arguments.limit, **query)
    if arguments.json:
        print_json(found)
        return
    print_table(
        ["when (UTC)", "action", "actor", "on", "outcome", "facts"],
        [[_when(row["at"]), *(row[name] for name in ("action", "actor", "resource", "outcome")), _facts(row["detail"])]
         for row in found["records"]],
    )  # fmt: skip


def _when(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _facts(detail: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in detail.items() if value not in ("", 0)}, ensure_ascii=False)


def _describe_rotation(done: dict[str, Any]) -> str:
    return (
        f"before   {done['old']}\nnow      {done['new']}\n"
        f"checkpoint {done['checkpoint']} was signed by both; write the new key down where the old one is"
    )


def _describe_head(head: dict[str, Any]) -> str:
    checkpoint = head["checkpoint"]
    lines = [f"log      {head['origin']}", f"key      {head['key']}"]
    if checkpoint:
        lines.append(f"signed   checkpoint {checkpoint['number']} at {checkpoint['at']}")
    lines.append(f"proven   records {head['proven_from']} to {head['proven_to']}; {head['unproven']} more wait")
    for copy in head["copies"]:
        lines.append(f"copy     {copy['destination']}: checkpoint {copy['number']} {copy['error']}".rstrip())
    for other in head["witnessed"]:
        lines.append(f"witness  of {other['origin']}: {other['size']} records {other['alarm']}".rstrip())
    if head["fault"]:
        lines.append(f"FAULT    {head['fault']}")
    return "\n".join(lines)
