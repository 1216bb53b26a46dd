"""Views over tables with masks or row filters: they would give back what the rules hide, so they are left out.

An engine runs a view with its owner's rights and without our rules. Pure. The invariant: a relation that reads a ruled
table, through however many views, or of which it is not known what it reads, is not in the catalogue that the gate
sees, unless the manifest has rules for that relation itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from roadbed.sources.catalogue import Catalogue
from roadbed.tools.sql.memory import Memory
from roadbed.tools.sql.names import fold

CATALOGUES_MAX = 200

_shown = Memory(CATALOGUES_MAX)


def without_views_of(catalogue: Catalogue, ruled: Collection[str]) -> Catalogue:
    """The catalogue without the views of ruled tables; itself where there is none."""
    if not catalogue.views or not ruled:
        return catalogue
    key = (id(catalogue), tuple(sorted(ruled)))
    known = _shown.get(key)
    if known is not None and known[0] is catalogue:  # held, so that no other has its id
        found: Catalogue = known[1]
        return found
    rules = [_parts(name) for name in ruled]
    hidden = {name for name in catalogue.views if _reads_ruled(name, catalogue.views, rules)}
    shown = catalogue
    if hidden:
        tables = {name: columns for name, columns in catalogue.tables.items() if name not in hidden}
        shown = replace(catalogue, tables=tables)
    _shown.put(key, (catalogue, shown))
    return shown


def _reads_ruled(view: str, views: Mapping[str, frozenset[str] | None], rules: list[tuple[str, str]]) -> bool:
    """Whether a view reads a ruled table and has no rules itself."""
    if _is_ruled(view, rules):
        return False
    by_name = {_parts(name)[1]: reads for name, reads in views.items()}
    seen: set[str] = set()
    stack = [view]
    while stack:
        name = stack.pop()
        if name in seen:
            continue
        seen.add(name)
        if name != view and _is_ruled(name, rules):
            return True
        if (last := _parts(name)[1]) in by_name:
            reads = by_name[last]
            if reads is None:
                return True
            stack += reads
    return False


def _is_ruled(name: str, rules: list[tuple[str, str]]) -> bool:
    schema, table = _parts(name)
    return any(table == other and (not schema or not wanted or schema == wanted) for wanted, other in rules)


def _parts(name: str) -> tuple[str, str]:
    schema, _, table = name.rpartition(".") if name.count(".") == 1 else ("", "", name)
    return fold(schema), fold(table)
