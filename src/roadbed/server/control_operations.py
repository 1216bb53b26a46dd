"""The descriptions of ``/api/controls``, ``/api/ready`` and ``/api/governance``, for ``openapi.py``."""

from __future__ import annotations

from typing import Final

from roadbed.kernel.principal import ADMIN, AUDITOR
from roadbed.server.control_routes import ApprovalOrder, RestoreNote
from roadbed.server.operations import Operation, Query

_EVIDENCE = (
    "{v, id, control, title, started, ended, duration_ms, period_s, outcome: pass|fail|invalid, summary, n, bound, "
    "inputs, problems: [text], facts, workspace, software, release, map, signature}"
)

CONTROL_OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        "GET",
        "/api/controls",
        AUDITOR,
        "Controls",
        "Every control: how it stands, its last evidence, and the clauses it is evidence for.",
        "{controls: [{id, title, period_s, standing: pass|fail|invalid|stale|waiting, is_failed, last, clauses}]}",
    ),
    Operation(
        "POST",
        "/api/controls/{id}/run",
        ADMIN,
        "Controls",
        "Run one control now, after the one that runs.",
        _EVIDENCE,
        status=201,
    ),
    Operation(
        "GET",
        "/api/controls/evidence",
        AUDITOR,
        "Controls",
        "The signed records of what controls found, oldest first.",
        f"{{key, evidence: [{_EVIDENCE}]}}; with format=oscal {{text, key, signature}}, OSCAL assessment results",
        query=(
            Query("control", "of one control"),
            Query("from", "since a day or a time (UTC)"),
            Query("format", "oscal"),
        ),
    ),
    Operation(
        "POST",
        "/api/controls/notes/restore",
        ADMIN,
        "Controls",
        "Record that a backup was restored and looked at.",
        "{noted}",
        request=RestoreNote,
        status=201,
    ),
    Operation(
        "GET",
        "/api/ready/{app}",
        AUDITOR,
        "Controls",
        "What stands between an app and production, and what mends each.",
        "{app, is_ready, items: [{name, state: ok|missing|unknown, is_required, found, fix}]}",
    ),
    Operation(
        "GET",
        "/api/governance",
        AUDITOR,
        "Controls",
        "The register of models, apps and collections as they serve, with approvals, and their cards.",
        "{register: {workspace, models, apps, collections}, cards: {<file>: markdown}}",
    ),
    Operation(
        "POST",
        "/api/governance/models/{name}/approve",
        ADMIN,
        "Controls",
        "Approve a model as it is: its endpoints and where they are.",
        "{model, digest, by}",
        request=ApprovalOrder,
        status=201,
    ),
)
