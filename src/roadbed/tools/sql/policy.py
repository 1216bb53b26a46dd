"""What the gate is told and what it says: `GatePolicy` and `Checked`, values that name no engine and no person.

A policy is made per call from the manifest (`predicates.shared_predicate` compiles the row filters for all callers).
Its digest is part of the key under which a verdict is remembered: a caller's own values come in after it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Literal

ROWS_MAX = 1000
GROUP_ROWS_MIN = 5

MaskKind = Literal["drop", "partial", "token", "group"]
"""How a column is hidden. ``drop``: no reference at all. ``partial``, ``token``: only shown, and masked in the rows.
``group``: only counted, or grouped by in groups of at least ``group_k`` rows."""


@dataclass(frozen=True)
class GatePolicy:
    """Rules of one call. ``masks``: table -> column -> kind. ``row_filters``: table -> predicate over its columns.

    A table is named as in the catalogue; without a schema it means that table in every schema. A masked column that the
    catalogue does not hold cannot be read anyway. ``skip`` are rows that were given before, of the same statement.
    """

    masks: Mapping[str, Mapping[str, MaskKind]] = field(default_factory=dict)
    row_filters: Mapping[str, str] = field(default_factory=dict)
    rows_max: int = ROWS_MAX
    group_k: int = GROUP_ROWS_MIN
    skip: int = 0

    def __post_init__(self) -> None:
        """Take the mappings as they are now: a later change of theirs is not a change of the policy."""
        masks = {table: MappingProxyType(dict(columns)) for table, columns in self.masks.items()}
        object.__setattr__(self, "masks", MappingProxyType(masks))
        object.__setattr__(self, "row_filters", MappingProxyType(dict(self.row_filters)))

    @cached_property
    def digest(self) -> bytes:
        """Equal for equal policies."""
        masks = sorted((table, sorted(columns.items())) for table, columns in self.masks.items())
        parts = (masks, sorted(self.row_filters.items()), self.rows_max, self.group_k, self.skip)
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


@dataclass(frozen=True)
class Checked:
    """A statement that may run. ``sql`` is the text to run, never the original.

    ``tables`` are the catalogue's names of what it reads. ``column_masks`` says by output position what
    `masks.mask_rows` has to do; ``column_names`` are the names that the engine is expected to give.
    """

    sql: str
    tables: tuple[str, ...]
    column_masks: tuple[MaskKind | None, ...]
    column_names: tuple[str, ...]
