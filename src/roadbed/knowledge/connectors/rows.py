"""Rows of declared tables as documents: a row becomes a title and a text by template.

Reads through a `RowSource` (room ``sources`` gives one); each table is a source of its own, named ``source.table``. The
invariant: a row is a document under its key, and its version changes when the row or the template does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from roadbed.kernel.errors import ConfigError
from roadbed.knowledge.connectors.connector import Content, Listed, NotTaken, ReadRefused
from roadbed.sources.manifest import TableConfig
from roadbed.sources.rows import shown

ROW_TEXT_CHARS_MAX = 100_000
PAGE_ROWS = 200
_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class RowSource(Protocol):
    """What is needed of the room ``sources``."""

    def rows(self, source: str, table: str) -> AsyncIterator[tuple[str, Mapping[str, Any], str]]:
        """(key, row, version hash) of every row of a declared table; raises when it cannot reach the end."""


class RowsConnector:
    """One declared table."""

    kind = "rows"

    def __init__(self, rows: RowSource, source: str, table: str, config: TableConfig) -> None:
        self._rows = rows
        self._source = source
        self._table = table
        self._config = config
        self._template = hashlib.sha256(f"{config.title}\0{config.text}".encode()).hexdigest()[:12]

    async def listing(self) -> AsyncIterator[Sequence[Listed | NotTaken]]:
        """All rows with their texts."""
        page: list[Listed | NotTaken] = []
        async for key, row, version in self._rows.rows(self._source, self._table):
            page.append(self._listed(key, row, version))
            if len(page) >= PAGE_ROWS:
                yield page
                page = []
        if page:
            yield page

    async def read(self, key: str) -> Content:
        """Rows come with their listing."""
        raise ReadRefused("listed_only", f"a row of {self._source}.{self._table} is read by listing its table")

    def changes(self) -> None:
        """Tables do not tell."""
        return

    def _listed(self, key: str, row: Mapping[str, Any], version: str) -> Listed:
        title = fill_template(self._config.title, row, where=f"{self._source}.{self._table}.title")
        text = fill_template(self._config.text, row, where=f"{self._source}.{self._table}.text")[:ROW_TEXT_CHARS_MAX]
        name = f"{self._source}.{self._table}/{key}"
        return Listed(
            key=key,
            uri=name,
            title=title,
            version=f"{version}:{self._template}",
            size_bytes=len(text.encode()),
            content=Content(name=title, text=text, media_type="text/plain"),
        )


def fill_template(template: str, row: Mapping[str, Any], *, where: str) -> str:
    """The template with each ``{column}`` replaced by the row's value; an unknown column is a `ConfigError`."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in row:
            hint = f"columns: {', '.join(sorted(row))}"
            raise ConfigError(f"{where}: the table has no column {match[1]!r}", hint=hint)
        return shown(row[match[1]])

    return _PLACE.sub(value, template)
