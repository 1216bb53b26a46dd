"""Templates and static files: the Jinja environment with its filters, and one digest over all static files.

Built once per process by ``pages``. Autoescape is on and an undefined name is an error. The invariant: the address of
a static file changes whenever the content of any of them does, so they may be kept for ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from roadbed.console import formatting, pills
from roadbed.console.markdown import render_quote
from roadbed.knowledge.parse.markdown import plain_words

HERE: Final = Path(__file__).parent
MEDIA_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
DIGEST_CHARACTERS: Final = 16


class StaticFiles:
    """The static files, read once."""

    def __init__(self, folder: Path = HERE / "static") -> None:
        self._files = {
            path.name: (path.read_bytes(), MEDIA_TYPES[path.suffix])
            for path in sorted(folder.iterdir())
            if path.suffix in MEDIA_TYPES
        }
        hashed = hashlib.sha256()
        for name, (data, _) in self._files.items():
            hashed.update(f"{name}\0{len(data)}\0".encode() + data)
        self.digest = hashed.hexdigest()[:DIGEST_CHARACTERS]

    def address(self, name: str) -> str:
        """Where a file is, under a name that changes with the files."""
        return f"/console/static/{self.digest}/{name}"

    def get(self, name: str) -> tuple[bytes, str] | None:
        """A file's bytes and media type."""
        return self._files.get(name)


class Templates:
    """Renders the console's templates."""

    def __init__(self, static: StaticFiles) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            count=formatting.count,
            duration_us=formatting.duration_us,
            duration_s=formatting.duration_s,
            milliseconds=formatting.milliseconds,
            size=formatting.size,
            money=formatting.money,
            when=formatting.when,
            sentence=formatting.sentence,
            short=formatting.short,
            plain_words=plain_words,
            quoted=render_quote,
            rung_pill=pills.rung_pill,
            try_pill=pills.try_pill,
            status_pill=pills.status_pill,
            trace_pill=pills.trace_pill,
            source_pill=pills.source_pill,
            document_pill=pills.document_pill,
            part_pill=pills.part_pill,
            endpoint_pill=pills.endpoint_pill,
            budget_pill=pills.budget_pill,
            connection_pill=pills.connection_pill,
            control_pill=pills.control_pill,
        )
        self._environment.globals.update(static=static.address, link=link)

    def render(self, name: str, context: Mapping[str, Any]) -> str:
        """One template with its values."""
        return self._environment.get_template(name).render(context)


def link(path: str, /, **query: Any) -> str:
    """An address of the console with a query; values that are empty are left out."""
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{quote(path, safe='/')}?{urlencode(given)}" if given else quote(path, safe="/")
