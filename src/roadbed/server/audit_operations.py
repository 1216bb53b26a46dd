"""The descriptions of ``/api/audit`` and ``/api/erasures``, for ``openapi.py``."""

from __future__ import annotations

from typing import Final

from roadbed.kernel.principal import ADMIN, AUDITOR
from roadbed.server.audit_routes import WitnessOrder
from roadbed.server.erasure_routes import ErasureOrder
from roadbed.server.operations import Operation, Query

AUDIT_OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        "GET",
        "/api/audit",
        AUDITOR,
        "Audit",
        "The tamper-evident record of acts and decisions, newest first.",
        "{records: [{action, actor, at, detail, outcome, release, resource, rung, seq, shard, v}], next}; with "
        "format=csv, jsonl or xlsx (the newest 20,000) a download, names masked",
        query=(
            Query("actor", "a key's id, or a pseudonym"),
            Query("action", "for example keys.rotate, or keys.*"),
            Query("acts", "true: privileged acts alone, no requests"),
            Query("break_glass", "the id of a use of break-glass: what was done under it"),
            Query("from", "a time or a day (UTC)"),
            Query("to", "a time or a day (UTC)"),
            Query("before", "`next` of the page before"),
            Query("limit", "how many at most", "integer"),
            Query("format", "json, csv, jsonl or xlsx"),
        ),
    ),
    Operation(
        "GET",
        "/api/audit/head",
        AUDITOR,
        "Audit",
        "How far the record is proven, the last checkpoint, its copies, and the public key.",
        "{origin, key, proven_from, proven_to, unproven, fault, checkpoint: {number, at, note}, copies: [{destination, "
        "number, shipped, error}], witnessed: [{origin, size, seen, alarm, alarmed}]}",
    ),
    Operation(
        "GET",
        "/api/audit/export",
        AUDITOR,
        "Audit",
        "Whole checkpoints of the record for the verifier, as `roadbed audit export` writes them into a folder.",
        "lines of {file, text}: pieces of files in order; the last line is {end: true}",
        query=(Query("from", "a time or a day (UTC)"), Query("to", "a time or a day (UTC)")),
        media_type="application/x-ndjson",
    ),
    Operation(
        "POST",
        "/api/audit/checkpoint",
        ADMIN,
        "Audit",
        "Sign what was recorded now, and ship it.",
        "{made, proven_from, proven_to, unproven, fault, checkpoint, copies, witnessed}",
    ),
    Operation(
        "POST",
        "/api/audit/rotate-key",
        ADMIN,
        "Audit",
        "Go over to another signing key, by a record and a checkpoint that both keys have signed.",
        "{old, new, checkpoint, size}",
    ),
    Operation(
        "POST",
        "/api/audit/witness",
        AUDITOR,
        "Audit",
        "Witness the next checkpoint of another log; a smaller or a forked tree is refused, and alarms.",
        "{origin, size}",
        request=WitnessOrder,
    ),
    Operation(
        "POST",
        "/api/erasures",
        ADMIN,
        "Erasure",
        "Remove a person's value from every store, keep it from coming back, and sign a receipt.",
        "{id, at, workspace, dry_run, subject, stores: {<store>: rows}, unreachable: [text], checkpoint_before, "
        "checkpoint_after, key, signature, salt}; `salt` is shown this once; 200 for a dry run",
        request=ErasureOrder,
        status=201,
        idle_status=200,
    ),
    Operation(
        "GET",
        "/api/erasures",
        AUDITOR,
        "Erasure",
        "The receipts of erasures, newest first.",
        "[{id, at, workspace, dry_run, subject, stores, unreachable, checkpoint_before, checkpoint_after, key, "
        "signature}]",
    ),
)
