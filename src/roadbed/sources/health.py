"""`SourceHealth`: how one source is reached just now, whatever its kind, for whoever shows it. Pure values."""

from __future__ import annotations

from dataclasses import dataclass

from roadbed.sources.pool import PoolState
from roadbed.sources.rights import Warned


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """How one declared source is reached. ``pool`` is None until it is first used; a ``size`` of 0 counts none.

    ``notes`` say what of it is not offered though it answers: operations that are no tools, tools that were changed.
    """

    name: str
    type: str
    pool: PoolState | None
    warnings: tuple[Warned, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        """Whether its breaker lets callers through."""
        return self.pool is None or self.pool.phase in ("closed", "recovering")
