"""Sources on the wire: what was read of each, and how the data system behind it is reached.

Pure. ``/api/sources``, ``/api/status`` and `roadbed doctor` share these shapes. The invariant: no connection string,
no row and no statement of a caller is in them; the statements in ``fix`` are ours, for the system's administrator.
"""

from __future__ import annotations

from typing import Any

from roadbed.knowledge.states import SourceState
from roadbed.sources.registry import SourceHealth

FAILURES_SHOWN = 50


def source_object(state: SourceState, connection: SourceHealth | None) -> dict[str, Any]:
    """One source on the wire; ``problem`` is null while all is well, ``connection`` where there is none to tell."""
    is_problem = state.state in ("failed", "held")
    failures: list[dict[str, Any]] = [
        {
            "document_id": failure.document_id,
            "document": failure.key,
            "reason": failure.reason,
            "message": failure.message,
        }
        for failure in state.failures[:FAILURES_SHOWN]
    ]
    failures += [
        {"document_id": None, "document": key, "reason": "not_taken", "message": reason}
        for key, reason in state.not_taken[:FAILURES_SHOWN]
    ]
    return {
        "name": state.name,
        "type": state.kind,
        "state": state.state,
        "documents": state.listed,
        "indexed": state.indexed,
        "failed": state.failed,
        "pending": state.pending,
        "held": state.held,
        "outdated": state.outdated,
        "rate_per_s": round(state.rate_per_s, 2),
        "eta_s": state.eta_s,
        "listed_at": state.listed_at,
        "attempted_at": state.attempted_at,
        "watched": state.is_watched,
        "problem": state.message if is_problem else None,
        "failures": failures,
        "connection": connection_object(connection) if connection is not None else None,
    }


def tools_only_object(found: SourceHealth) -> dict[str, Any]:
    """A source that brings no documents, in the shape of those that do; its state is ``tools``."""
    is_away = found.pool is not None and not found.is_well
    return {
        **dict.fromkeys(("documents", "indexed", "failed", "pending", "held", "outdated"), 0),
        "name": found.name,
        "type": found.type,
        "state": "tools",
        "rate_per_s": 0.0,
        **dict.fromkeys(("eta_s", "listed_at", "attempted_at")),
        "watched": False,
        "problem": found.pool.last_failure if is_away and found.pool is not None else None,
        "failures": [],
        "connection": connection_object(found),
    }


def connection_object(found: SourceHealth) -> dict[str, Any]:
    """The connections to one data system on the wire; ``pool`` is null until it is first used."""
    pool = found.pool
    return {
        "name": found.name,
        "type": found.type,
        "well": found.is_well,
        "pool": None
        if pool is None
        else {
            "size": pool.size,
            "in_use": pool.in_use,
            "idle": pool.idle,
            "waiting": pool.waiting,
            "breaker": pool.phase,
            "retry_after_s": round(pool.retry_after_s, 2),
            "last_failure": pool.last_failure,
            "last_failure_at": pool.last_failure_at,
        },
        "warnings": [{"message": warning.message, "fix": list(warning.fix)} for warning in found.warnings],
        "notes": list(found.notes),
    }
