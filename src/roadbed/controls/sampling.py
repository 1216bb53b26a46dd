"""Two sampling controls: what is stored holds nothing that policy replaces, and connected sources are as they are said.

Stored text: values drawn at random from every text column that is to hold placeholders (traces, spans, usage, notes)
and, for secrets alone, from the stored text of documents, are scanned anew. Connected sources: rows drawn from each
declared table; personal data in a table without the label ``personal`` and without a mask, or a secret anywhere, fails.
The bound of `bounds.py` is published with n and the detector's recall, never "no leaks".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final, Protocol

from roadbed.controls.bounds import upper_bound
from roadbed.controls.control import Fact, Result, judged
from roadbed.guard.finding import Finding
from roadbed.store.database import Database

DAY_S: Final = 86_400.0
ROWS_EACH: Final = 400
TEXT_CHARACTERS_MAX: Final = 20_000
RECALL: Final = 0.95
"""The recall of the detectors on planted data, by which the bound is corrected (docs/benchmarks.md)."""
PLACEHOLDERS: Final = (("trace", "question"), ("trace", "answer"), ("trace", "attributes"), ("span", "attributes"))
STORED: Final = (("document", "title"), ("document", "content"), ("chunk", "text"))


class Scan(Protocol):
    """What finds personal data and secrets."""

    def scan(self, text: str) -> list[Finding]:
        """What the workspace's settings do not allow."""


class StoredTextControl:
    """The control over the database's own tables."""

    id = "stored-text"
    title = "Stored text holds no secret, and records no personal data"
    period_s = DAY_S

    def __init__(self, database: Database, scan: Scan) -> None:
        self._database = database
        self._scan = scan

    async def run(self) -> Result:
        """Draw and scan."""
        problems: list[str] = []
        facts: dict[str, Fact] = {}
        n = hits = 0
        columns = await self._columns()
        for table, column in columns:
            found = await self._drawn(table, column)
            secrets_only = (table, column) in STORED
            kinds = await asyncio.to_thread(_kinds, self._scan, found, secrets_only=secrets_only)
            n, hits = n + len(found), hits + len(kinds)
            facts[f"{table}.{column}"] = len(found)
            if kinds:
                problems.append(
                    f"{len(kinds)} of {len(found)} in {table}.{column} hold {', '.join(sorted(set(kinds)))}"
                )
        bound = upper_bound(n, hits, recall=RECALL)
        facts |= {"recall": RECALL, "hits": hits}
        inputs: dict[str, Fact] = {"columns": ",".join(f"{table}.{column}" for table, column in columns)}
        if not n:
            return Result("pass", "nothing is stored yet", facts=facts, inputs=inputs)
        return judged(
            problems, f"{n} texts drawn, none that policy replaces", n=n, bound=bound, facts=facts, inputs=inputs
        )

    async def _columns(self) -> list[tuple[str, str]]:
        """Those of the wanted columns that there are."""
        rows = await self._database.fetch(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = $1",
            self._database.schema,
        )
        known = {(row["table_name"], row["column_name"]) for row in rows}
        return [pair for pair in (*PLACEHOLDERS, *STORED) if pair in known]

    async def _drawn(self, table: str, column: str) -> list[str]:
        """Values at random: of large tables from pages at random, else in random order."""
        size = await self._database.fetchval(
            "SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass($1)", table
        )
        sample = f"TABLESAMPLE SYSTEM ({min(100.0, 100.0 * 20 * ROWS_EACH / size):.4f})" if size > 40_000 else ""
        rows = await self._database.fetch(
            f'SELECT left("{column}"::text, $1) AS text FROM "{table}" {sample}'  # noqa: S608 - names of the tables above
            f' WHERE "{column}" IS NOT NULL ORDER BY random() LIMIT $2',
            *(TEXT_CHARACTERS_MAX, ROWS_EACH),
        )
        return [row["text"] for row in rows if row["text"] and row["text"] != "{}"]


class Drawn(Protocol):
    """Rows of one declared table of a connected source."""

    @property
    def name(self) -> str:
        """``source.table``."""

    @property
    def is_personal(self) -> bool:
        """Whether its label says that it holds personal data."""

    @property
    def texts(self) -> Sequence[str]:
        """The drawn values, as they would be indexed."""


class RowDrawer(Protocol):
    """Reads rows of the declared tables through the connections that serve."""

    def drawn(self, rows: int) -> AsyncIterator[Drawn | str]:
        """Each table's rows, or why it could not be read."""


class ConnectedSourcesControl:
    """The control over what connected sources hold."""

    id = "connected-sources"
    title = "Connected tables hold no secret, and personal data where they are labelled so"
    period_s = DAY_S

    def __init__(self, drawer: RowDrawer, scan: Scan) -> None:
        self._drawer = drawer
        self._scan = scan

    async def run(self) -> Result:
        """Draw and scan."""
        problems: list[str] = []
        gaps: list[str] = []
        n = hits = tables = 0
        async for found in self._drawer.drawn(ROWS_EACH):
            if isinstance(found, str):
                gaps.append(found)
                continue
            tables += 1
            kinds = await asyncio.to_thread(_kinds, self._scan, found.texts, secrets_only=found.is_personal)
            n, hits = n + len(found.texts), hits + len(kinds)
            if kinds:
                words = ", ".join(sorted(set(kinds)))
                problems.append(f"{len(kinds)} of {len(found.texts)} rows of {found.name} hold {words}")
        facts: dict[str, Fact] = {"tables": tables, "unread": len(gaps), "hits": hits, "recall": RECALL}
        if gaps and not problems:
            return Result("invalid", f"not all could be read: {gaps[0]}", n=n, problems=tuple(gaps), facts=facts)
        bound = upper_bound(n, hits, recall=RECALL) if n else None
        good = f"{n} rows of {tables} tables drawn" if tables else "no table of a connected source is declared"
        return judged(problems, good, n=n, bound=bound, facts=facts)


def _kinds(scan: Scan, texts: Iterable[str], *, secrets_only: bool) -> list[str]:
    """One kind for each text that holds something that it may not."""
    kinds = []
    for text in texts:
        found = [
            finding for finding in scan.scan(text) if finding.is_secret or (not secrets_only and finding.is_personal)
        ]
        if found:
            kinds.append(found[0].type)
    return kinds
