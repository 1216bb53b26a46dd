"""The gate for SQL that a model or person wrote: one SELECT over the tables and columns that the caller may read.

Pure: `check` takes a text, a catalogue and a policy, and gives the text to run or raises `SqlRefused` with a reason
that the writer can mend it by. The engine's own rights are the wall behind it. The invariant: what passes is written
anew from a tree in which every node is on a list and every name is resolved; the original text is never run.
"""

from __future__ import annotations

import hashlib
from typing import Any

from sqlglot import exp

from roadbed.sources.catalogue import Catalogue
from roadbed.tools.sql import allowlist, rewrite
from roadbed.tools.sql.errors import SqlRefused as SqlRefused
from roadbed.tools.sql.memory import Memory
from roadbed.tools.sql.names import Names, nodes_of
from roadbed.tools.sql.policy import Checked as Checked
from roadbed.tools.sql.policy import GatePolicy as GatePolicy
from roadbed.tools.sql.policy import MaskKind as MaskKind
from roadbed.tools.sql.queries import Queries

VERDICTS_MAX = 2_000
CATALOGUES_MAX = 200

_Key = tuple[str, bytes, bytes]


_verdicts = Memory(VERDICTS_MAX)
_digests = Memory(CATALOGUES_MAX)
_names = Memory(CATALOGUES_MAX)


def check(sql: str, catalogue: Catalogue, policy: GatePolicy = GatePolicy()) -> Checked:  # noqa: B008 (a frozen value)
    """The statement to run in place of a text; `SqlRefused` says what to mend. Takes milliseconds the first time.

    The catalogue is taken as a value: one that is changed in place keeps its old verdicts.
    """
    key = (sql, _digest(catalogue), policy.digest)
    verdict = _verdicts.get(key)
    if verdict is None:
        try:
            verdict = _checked(sql, catalogue, policy, key)
        except SqlRefused as refusal:
            verdict = (refusal.message, refusal.hint)
        except RecursionError:
            verdict = ("the statement is nested too deeply", "use WITH and fewer levels")
        _verdicts.put(key, verdict)
    return _told(verdict)


def remembered(sql: str, catalogue: Catalogue, policy: GatePolicy) -> Checked | None:
    """What `check` said of the same before, in microseconds; None when it was not asked. `SqlRefused`."""
    verdict = _verdicts.get((sql, _digest(catalogue), policy.digest))
    return None if verdict is None else _told(verdict)


def _told(verdict: Any) -> Checked:
    if isinstance(verdict, Checked):
        return verdict
    raise SqlRefused(verdict[0], hint=verdict[1])


def forget() -> None:
    """Forget all verdicts, for measurements."""
    _verdicts.clear()


def _checked(sql: str, catalogue: Catalogue, policy: GatePolicy, key: _Key) -> Checked:
    dialect = catalogue.dialect
    root = rewrite.parse(sql, dialect)
    nodes = nodes_of(root)
    if len(nodes) > rewrite.NODES_MAX:
        raise SqlRefused("the statement is too long", hint="write a shorter one")
    allowlist.check_nodes(nodes, dialect)
    has_star = exp.Star in map(type, nodes)
    names = _names.get(key[1:])
    if names is None:
        names = Names(catalogue, policy)
        _names.put(key[1:], names)
    queries = Queries(names, policy.group_k)
    columns = queries.resolve(root)
    rewrite.bound_rows(root, policy.rows_max, policy.skip)
    if has_star:  # the resolver makes none but in COUNT(*)
        _check_again(root)
    return Checked(
        rewrite.write(root, dialect),
        queries.tables,
        tuple(column.mask.kind if column.mask is not None else None for column in columns),
        tuple(column.name for column in columns),
    )


def _check_again(root: exp.Expr) -> None:
    """No star is left but in COUNT(*), and no column without the relation that gives it."""
    for node in nodes_of(root):
        if isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count):
            raise SqlRefused("* is not allowed here", hint="name the columns")


def _digest(catalogue: Catalogue) -> bytes:
    """A catalogue's content in short. Remembered by identity, with the catalogue held so that this stays its own."""
    known = _digests.get(id(catalogue))
    if known is not None and known[0] is catalogue:
        digest: bytes = known[1]
        return digest
    tables = [(table, *columns) for table, columns in catalogue.tables.items()]
    digest = hashlib.blake2b(repr((catalogue.dialect, tables)).encode(), digest_size=16).digest()
    _digests.put(id(catalogue), (catalogue, digest))
    return digest
