"""Telling the other processes what this one was asked for, and hearing it of them: the heartbeat of limits.

One row per process, written each second. Who divides what by it is the caller's business. While the database is away
the last answer stands.
"""

from __future__ import annotations

from typing import Any

from roadbed.store.database import Database

HEARTBEAT_S = 1.0
SILENT_S = 3.5
HOLDERS_MAX = 1000


class Heartbeats:
    """The rows of ``limit_share``."""

    def __init__(self, database: Database, holder: str) -> None:
        self._database = database
        self.holder = holder

    async def beat(self, demand: dict[str, float]) -> dict[str, dict[str, float]]:
        """Say what this process was asked for; what each that lives was, by holder. Raises `Unavailable`."""
        rows: list[Any] = await self._database.fetch(
            "WITH mine AS (INSERT INTO limit_share (holder, seen, demand) VALUES ($1, now(), $2)"
            " ON CONFLICT (holder) DO UPDATE SET seen = now(), demand = excluded.demand),"
            " gone AS (DELETE FROM limit_share WHERE seen < now() - interval '1 hour')"
            " SELECT holder, demand FROM limit_share WHERE seen > now() - make_interval(secs => $3) AND holder <> $1"
            " LIMIT $4",
            *(self.holder, demand, SILENT_S, HOLDERS_MAX),
        )
        return {self.holder: demand, **{row["holder"]: row["demand"] for row in rows}}

    async def leave(self) -> None:
        """This process ends: the others take its shares at once."""
        await self._database.execute("DELETE FROM limit_share WHERE holder = $1", self.holder)
