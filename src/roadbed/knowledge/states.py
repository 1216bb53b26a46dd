"""How sources and collections stand, for the console, the API and the ready file: counts, reasons, progress.

Read-only, from the database alone, so that every process says the same. Holds no text. The facade calls it.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from roadbed.kernel.principal import ADMIN, AUDITOR, EVERYONE, Principal
from roadbed.knowledge.parse.versions import READER, older_names

FAILURES_SHOWN_MAX = 100
RATE_WINDOW_S = 30
OUTDATED = (
    "(s.kind <> 'rows' AND coalesce(r.reader, 0) < $2 "
    "AND (d.state = 'failed' OR (d.state = 'indexed' AND d.parser = ANY($1::text[]))))"
)
"""Documents d of sources s, with their document_reader r, that this build's parsers have still to read; $1 are the
names of earlier parsers, $2 this reader's number. Rows are not parsed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A document that is not in the index, with the reason."""

    document_id: str
    key: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class SourceState:
    """One source. ``state`` is new, listing, indexing, idle, held or failed; ``message`` explains the last two.

    ``rate_per_s`` counts documents of the last half minute; ``eta_s`` is ``None`` when nothing waits or nothing moves.
    ``not_taken`` are entries that are not read, with the reason. ``outdated`` documents are served as an earlier build
    read them (or failed in it) and are read again in the background. ``attempted_at`` is when the last listing that has
    ended, well or not, began: who asked at a time waits for a later one (`Knowledge.start_sync`). ``groups`` may see
    the source's documents, unless a document says otherwise itself.
    """

    name: str
    kind: str
    state: str
    message: str
    listed: int
    indexed: int
    pending: int
    failed: int
    held: int
    failures: tuple[Failure, ...]
    not_taken: tuple[tuple[str, str], ...]
    outdated: int
    rate_per_s: float
    eta_s: float | None
    listed_at: datetime | None
    attempted_at: datetime | None
    is_watched: bool
    groups: frozenset[str] = frozenset({EVERYONE})

    @property
    def done(self) -> int:
        """Documents that were dealt with."""
        return self.indexed + self.failed


@dataclass(frozen=True, slots=True)
class CollectionStats:
    """One collection: what it is made of, and how much its live generation holds."""

    name: str
    sources: tuple[str, ...]
    generation: int | None
    documents: int
    chunks: int


async def source_states(database: Any, watched: Container[str]) -> list[SourceState]:
    """All declared sources by name; those that begin with ``_`` are the deployment's own, and not listed."""
    rows = await database.fetch(
        f"""
        SELECT s.*, count(d.id) FILTER (WHERE d.state = 'indexed') AS indexed,
               count(d.id) FILTER (WHERE d.state = 'pending') AS pending,
               count(d.id) FILTER (WHERE d.state = 'failed') AS failed,
               count(d.id) FILTER (WHERE d.indexed_at > now() - make_interval(secs => $3)) AS recent,
               count(d.id) FILTER (WHERE {OUTDATED}) AS outdated,
               ARRAY(SELECT group_name FROM acl_member a WHERE a.acl_id = s.acl_id) AS groups
        FROM source s LEFT JOIN document d ON d.source = s.name LEFT JOIN document_reader r ON r.document_id = d.id
        WHERE s.is_declared AND NOT starts_with(s.name, '_') GROUP BY s.name ORDER BY s.name
        """,  # noqa: S608 - constants only
        older_names(),
        READER,
        RATE_WINDOW_S,
    )
    failures = await database.fetch(
        """
        SELECT source, id, key, failure_reason, failure_message FROM (
            SELECT d.*, row_number() OVER (PARTITION BY source ORDER BY key) AS place FROM document d
            WHERE state = 'failed'
        ) AS numbered WHERE place <= $1 ORDER BY key
        """,
        FAILURES_SHOWN_MAX,
    )
    failures_of: dict[str, list[Failure]] = {}
    for row in failures:
        failure = Failure(row["id"], row["key"], row["failure_reason"], row["failure_message"])
        failures_of.setdefault(row["source"], []).append(failure)
    return [_state(row, tuple(failures_of.get(row["name"], ())), row["name"] in watched) for row in rows]


def _state(row: Any, failures: tuple[Failure, ...], is_watched: bool) -> SourceState:
    pending = row["pending"]
    rate = row["recent"] / RATE_WINDOW_S
    return SourceState(
        name=row["name"],
        kind=row["kind"],
        state="indexing" if row["state"] == "idle" and pending else row["state"],
        message=row["message"],
        listed=max(row["listed_count"], row["indexed"] + pending + row["failed"]),
        indexed=row["indexed"],
        pending=pending,
        failed=row["failed"],
        held=row["held_count"],
        failures=failures,
        not_taken=tuple((key, reason) for key, reason in row["refused"]),
        outdated=row["outdated"],
        rate_per_s=rate,
        eta_s=pending / rate if pending and rate else None,
        listed_at=row["listed_at"],
        attempted_at=row["attempted_at"],
        is_watched=is_watched,
        groups=frozenset(row["groups"]),
    )


def states_for(states: Sequence[SourceState], principal: Principal) -> list[SourceState]:
    """What a caller may know of the sources.

    Admins and auditors see all. For others a source of other teams is not there, not even its name or its count, and
    names of documents are left out: they are as confidential as the documents.
    """
    if principal.roles & {ADMIN, AUDITOR}:
        return list(states)
    return [
        replace(state, failures=(), not_taken=(), message="its operators know why" if state.message else "")
        for state in states
        if state.groups & principal.groups
    ]


async def unread_sources(database: Any, collections: Sequence[str]) -> dict[str, frozenset[str]]:
    """Who may know of each source of these collections that was not read to its end yet, by name.

    A document that is read again after a change does not count: what was read of it before is found meanwhile.
    """
    rows = await database.fetch(
        """
        SELECT s.name, ARRAY(SELECT group_name FROM acl_member a WHERE a.acl_id = s.acl_id) AS groups
        FROM source s WHERE s.is_declared
        AND s.name IN (SELECT source FROM collection_source WHERE collection = ANY($1::text[]))
        AND (s.listed_at IS NULL OR EXISTS (
            SELECT FROM document d WHERE d.source = s.name AND d.state = 'pending' AND d.version IS NULL
        )) ORDER BY s.name
        """,
        list(collections),
    )
    return {row["name"]: frozenset(row["groups"]) for row in rows}


async def seen_collections(database: Any, collections: Sequence[str], groups: frozenset[str]) -> set[str]:
    """Those of the collections of which these groups may see a source, or a document that says so itself."""
    rows = await database.fetch(
        """
        SELECT DISTINCT k.collection FROM collection_source k
        JOIN source s ON s.name = k.source AND s.is_declared
        WHERE k.collection = ANY($1::text[]) AND (
            EXISTS (SELECT FROM acl_member a WHERE a.acl_id = s.acl_id AND a.group_name = ANY($2::text[]))
            OR EXISTS (
                SELECT FROM document d JOIN acl_member a ON a.acl_id = d.acl_id
                WHERE d.source = s.name AND a.group_name = ANY($2::text[])
            )
        )
        """,
        list(collections),
        sorted(groups),
    )
    return {row["collection"] for row in rows}


async def collection_stats(database: Any) -> list[CollectionStats]:
    """All declared collections by name."""
    rows = await database.fetch(
        """
        SELECT k.name, k.live_generation,
               ARRAY(SELECT source FROM collection_source s WHERE s.collection = k.name ORDER BY 1) AS sources,
               (SELECT count(*) FROM document d JOIN collection_source s ON s.source = d.source
                WHERE s.collection = k.name AND d.version IS NOT NULL) AS documents,
               (SELECT count(*) FROM chunk c WHERE c.generation = k.live_generation) AS chunks
        FROM collection k WHERE k.is_declared AND NOT starts_with(k.name, '_') ORDER BY k.name
        """
    )
    return [
        CollectionStats(
            name=row["name"],
            sources=tuple(row["sources"]),
            generation=row["live_generation"],
            documents=row["documents"],
            chunks=row["chunks"],
        )
        for row in rows
    ]
