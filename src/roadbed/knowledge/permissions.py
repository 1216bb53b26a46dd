"""Who may see a document: sets of groups, stored once each (``acl_id``), and what a caller's groups add up to.

Owns the tables ``acl`` and ``acl_member``. Called by sync when documents are listed, and by search for its mask. A
set is never changed once stored; a document that gets other readers gets another ``acl_id``. The invariant: a cached
visible set may lack a new ``acl_id`` (recall for a moment), but never holds one that the caller's groups do not give.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from roadbed.kernel.principal import EVERYONE

GROUPS_PER_ACL_MAX = 1_000
VISIBLE_SETS_CACHED_MAX = 4_096

VISIBLE_TO_GROUPS = "EXISTS (SELECT FROM acl_member m WHERE m.acl_id = d.acl_id AND m.group_name = ANY({}::text[]))"
"""The condition that every statement which returns text of a document ``d`` carries."""


class Fetches(Protocol):
    """What is needed of a database or a connection to read."""

    async def fetch(self, sql: str, *arguments: Any) -> list[Any]:
        """All rows."""


def groups_of_teams(visible_to: Sequence[str] | None) -> frozenset[str]:
    """The groups that a manifest's ``visible_to`` names; everyone with a key when it was left out or says so."""
    if visible_to is None or EVERYONE in visible_to:
        return frozenset({EVERYONE})
    return frozenset(f"team:{team}" for team in visible_to)


def acl_digest(groups: Iterable[str]) -> bytes:
    """The name of a set of groups, whatever the order."""
    return hashlib.sha256("\0".join(sorted(set(groups))).encode()).digest()


async def acl_id_of(connection: Any, groups: frozenset[str]) -> int:
    """The id of a set of groups, made where it is new. An empty set is a set: nobody sees its documents."""
    if len(groups) > GROUPS_PER_ACL_MAX:
        raise ValueError(f"a document may be shown to at most {GROUPS_PER_ACL_MAX} groups")
    digest = acl_digest(groups)
    found = await connection.fetchval("SELECT acl_id FROM acl WHERE digest = $1", digest)
    if found is not None:
        return int(found)
    made = await connection.fetchval(
        """
        WITH made AS (INSERT INTO acl (digest) VALUES ($1) ON CONFLICT DO NOTHING RETURNING acl_id),
             members AS (INSERT INTO acl_member (group_name, acl_id) SELECT unnest($2::text[]), acl_id FROM made)
        SELECT acl_id FROM made
        """,
        digest,
        sorted(groups),
    )
    if made is None:  # another writer made it between the two statements
        made = await connection.fetchval("SELECT acl_id FROM acl WHERE digest = $1", digest)
    return int(made)


class VisibleSets:
    """For each set of a caller's groups, which ``acl_id`` it may see: boolean arrays indexed by ``acl_id``.

    Kept until an ``acl_id`` beyond the array is asked for: ids only grow, and the meaning of one never changes.
    """

    def __init__(self, database: Fetches) -> None:
        self._database = database
        self._sets: OrderedDict[frozenset[str], NDArray[np.bool_]] = OrderedDict()

    async def visible(self, groups: frozenset[str], acl_id_max: int) -> NDArray[np.bool_]:
        """An array of at least ``acl_id_max + 1`` places; true where these groups may see."""
        known = self._sets.get(groups)
        if known is not None and len(known) > acl_id_max:
            self._sets.move_to_end(groups)
            return known
        rows = await self._database.fetch(
            """
            SELECT (SELECT coalesce(max(acl_id), 0) FROM acl) AS acl_id_max,
                   (SELECT coalesce(string_agg(int4send(acl_id), ''), '') FROM
                       (SELECT DISTINCT acl_id FROM acl_member WHERE group_name = ANY($1::text[])) AS seen) AS seen
            """,
            sorted(groups),
        )
        mask = np.zeros(max(int(rows[0]["acl_id_max"]), acl_id_max) + 1, dtype=np.bool_)
        mask[np.frombuffer(rows[0]["seen"], dtype=">i4")] = True
        self._sets[groups] = mask
        while len(self._sets) > VISIBLE_SETS_CACHED_MAX:
            self._sets.popitem(last=False)
        return mask
