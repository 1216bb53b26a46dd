"""What the playground offers to try things with: made-up rows and documents, and what a prompt holds of real people.

Rows are made as ``roadbed data synth`` makes them, of a small sample; a document keeps its other words, so that only
those of sources that are public or internal are offered. The invariant: no text of a row, and no person, card or number
of a document, is in what comes out.
"""

from __future__ import annotations

import asyncio
import csv
import io
import random
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Final, Protocol

from roadbed.guard.gate import Guard
from roadbed.guard.personas import is_nobodys, kind_of_text, made_value, rewritten
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import NotFound
from roadbed.kernel.label import Level, parse_label
from roadbed.kernel.principal import Principal
from roadbed.knowledge.service import Knowledge
from roadbed.releases.manifest import Manifest
from roadbed.server.teams import Teams
from roadbed.sources.manifest import DatabaseSource, SourceConfig
from roadbed.sources.registry import Sources
from roadbed.sources.sampled import sampled_tables
from roadbed.sources.synthetic import synthesise

ROWS_SAMPLED_MAX: Final = 300
ROWS_SHOWN_MAX: Final = 8
TABLES_MAX: Final = 3
DOCUMENT_CHARACTERS_MAX: Final = 4_000
READ_S: Final = 20.0


class NoTrialData(NotFound):
    """The source is none that trial data can be made of, or holds nothing yet."""

    code = "console.no_trial_data"
    hint = "name a database, or a source of documents that is public or internal and has been read"


class TrialTools(Protocol):
    """What is needed of the tools that serve."""

    @property
    def sources(self) -> Sources:
        """The connections to other systems."""


class Parts(Protocol):
    """What is needed of the deployment."""

    teams: Teams
    knowledge: Knowledge

    @property
    def tools(self) -> TrialTools:
        """The tools that serve."""

    @property
    def manifest(self) -> Manifest:
        """The manifest that serves."""


class TrialData:
    """One per process. Implements `console.services.TrialView`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @property
    def _guard(self) -> Guard:
        return self._parts.teams.guard

    def found(self, text: str) -> Mapping[str, int]:
        """How many values of each type a prompt holds that may belong to people, or are secrets."""
        return Counter(
            item.type
            for item in self._guard.scan(text)
            if item.is_secret or (item.is_personal and not is_nobodys(text[item.start : item.end]))
        )

    def replaced(self, text: str) -> str:
        """The prompt with made-up values in their place."""
        return rewritten(self._guard, text, random.Random(), {})

    def sources(self, principal: Principal) -> list[str]:
        """The sources and collections of which this caller may try made-up data."""
        manifest = self._parts.manifest
        names = [name for name, source in manifest.sources.items() if _may_try(source, principal)]
        whole = [
            name
            for name, collection in manifest.collections.items()
            if name not in names and any(part.partition(".")[0] in names for part in collection.sources)
        ]
        return sorted(names) + sorted(whole)

    async def sample(self, name: str, principal: Principal) -> str:
        """Made-up rows or a document, to stand in a prompt. `NoTrialData`, and as `Sources.catalogue`."""
        if name not in self.sources(principal):
            raise NoTrialData(f"there is no trial data of {name[:64]!r}")
        manifest = self._parts.manifest
        parts = [name] if name in manifest.sources else manifest.collections[name].sources
        for part in parts:
            source, _, table = part.partition(".")
            if _may_try(manifest.sources.get(source), principal):
                is_database = isinstance(manifest.sources[source], DatabaseSource)
                made = await (self._rows(source, table) if is_database else self._document(source, principal))
                if made:
                    return made
        raise NoTrialData(f"{name[:64]!r} holds nothing yet")

    async def _rows(self, source: str, table: str) -> str:
        tables, _ = await sampled_tables(
            self._parts.tools.sources,
            source,
            Deadline.after(READ_S),
            tables_max=TABLES_MAX,
            rows_max=ROWS_SAMPLED_MAX,
            only=[table] if table else (),
        )
        chance = random.SystemRandom().randrange(2**31)
        kind_of = partial(kind_of_text, self._guard)
        made = await asyncio.to_thread(synthesise, tables, ROWS_SHOWN_MAX, chance, make=made_value, kind_of=kind_of)
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\n")
        for one in tables:
            out.write(f"{one.name}:\n")
            writer.writerow(one.columns)
            writer.writerows(["" if value is None else value for value in row] for row in made[one.name])
        return out.getvalue()

    async def _document(self, source: str, principal: Principal) -> str:
        knowledge = self._parts.knowledge
        first = await knowledge.documents(source, principal, state="indexed", limit=1)
        if not first:
            return ""
        view = await knowledge.document(first[0].id, principal)
        chance = random.Random()
        return await asyncio.to_thread(rewritten, self._guard, view.text[:DOCUMENT_CHARACTERS_MAX], chance, {})


def _may_try(source: SourceConfig | None, principal: Principal) -> bool:
    if source is None or (source.visible_to is not None and principal.team not in source.visible_to):
        return False
    level = parse_label(source.labels).level
    return level <= principal.clearance and (isinstance(source, DatabaseSource) or level <= Level.INTERNAL)
