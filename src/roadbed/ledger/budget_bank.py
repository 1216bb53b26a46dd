"""`PostgresBank`: budgets and leases in the database, each move one statement.

The clock and the calendar are the database's; a budget's row for a period is made by its first grant. Every statement
locks a lease before its budget, and names cumulative figures, so that it may be sent again when nobody saw its commit.
The invariant: settled + leased <= cap, and leased is the sum of what open leases were granted and did not spend.
"""

from __future__ import annotations

from typing import Any, Final

from roadbed.kernel.limits import Budget
from roadbed.ledger.budget import LEASE_S, Denied, Granted
from roadbed.store.database import Database

EXPIRED_AT_ONCE_MAX: Final = 1000
KEEP_PERIODS: Final = "400 days"
_PERIOD = "date_trunc($4::text, now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"
_ENDS = "(date_trunc($4::text, now() AT TIME ZONE 'UTC') + ('1 ' || $4)::interval) AT TIME ZONE 'UTC'"

# $1 lease, $2 budget, $3 cap, $4 unit, $5 spent, $6 need, $7 want, $8 holder, $9 seconds that a lease lasts
_GRANT = f"""
WITH held AS MATERIALIZED (
    SELECT starts, state, greatest($5::bigint - spent, 0) AS news FROM budget_lease WHERE id = $1::text FOR UPDATE
), told AS (
    SELECT coalesce((SELECT news FROM held), 0) AS news,
        greatest(1, (SELECT count(DISTINCT holder) FROM budget_lease WHERE budget_id = $2 AND state = 'open'))
            AS holders
), granted AS (
    INSERT INTO budget AS b (id, starts, ends, cap, leased, granted)
    SELECT $2, {_PERIOD}, {_ENDS}, $3::bigint, g, g
    FROM told, LATERAL (SELECT greatest($6::bigint, least($7::bigint, $3 / (2 * holders))) AS g) AS first
    WHERE g <= $3 AND NOT EXISTS (SELECT FROM held WHERE state <> 'open' OR starts <> {_PERIOD})
    ON CONFLICT (id, starts) DO UPDATE SET
        cap = $3, settled = b.settled + (SELECT news FROM told),
        granted = greatest($6, least($7, ($3 - b.settled - b.leased) / (2 * (SELECT holders FROM told)))),
        leased = b.leased - (SELECT news FROM told)
            + greatest($6, least($7, ($3 - b.settled - b.leased) / (2 * (SELECT holders FROM told))))
    WHERE b.settled + b.leased + $6 <= $3
    RETURNING starts, ends, settled, leased, granted
), kept AS (
    INSERT INTO budget_lease AS l (id, budget_id, starts, holder, granted, spent, expires)
    SELECT $1, $2, starts, $8, granted, 0, now() + make_interval(secs => $9) FROM granted
    ON CONFLICT (id) DO UPDATE SET
        granted = l.granted + excluded.granted, spent = greatest(l.spent, $5), expires = excluded.expires
    RETURNING l.granted
)
SELECT kept.granted, settled, leased, extract(epoch FROM ends - now())::float8 AS left_s, starts::text
FROM granted, kept
"""  # noqa: S608 - made of the constants above

_STANDING = f"""
SELECT coalesce(b.settled, 0) AS settled, coalesce(b.leased, 0) AS leased,
    extract(epoch FROM {_ENDS} - now())::float8 AS left_s, p.starts::text,
    EXISTS (SELECT FROM budget_lease l WHERE l.id = $1::text AND (l.state <> 'open' OR l.starts <> p.starts)) AS stale
FROM (SELECT {_PERIOD} AS starts) AS p LEFT JOIN budget b ON b.id = $2::text AND b.starts = p.starts AND $3::bigint >= 0
"""  # noqa: S608

# A lease that is not there yet gets a tombstone, so that a grant which is still under way cannot open it.
_GIVE_BACK = """
WITH before AS MATERIALIZED (
    SELECT id, budget_id, starts, state, granted, spent FROM budget_lease
    WHERE id = $1 AND state <> 'returned' FOR UPDATE
), closed AS (
    UPDATE budget_lease l SET state = 'returned', spent = $2 FROM before WHERE l.id = before.id
), tombstone AS (
    INSERT INTO budget_lease (id, budget_id, starts, holder, granted, spent, state, expires)
    SELECT $1, '', now(), '', 0, $2, 'returned', now() WHERE NOT EXISTS (SELECT FROM before)
    ON CONFLICT (id) DO NOTHING
)
UPDATE budget b SET
    settled = greatest(0, b.settled + $2::bigint
        - CASE WHEN before.state = 'charged' THEN before.granted ELSE before.spent END),
    leased = b.leased - CASE WHEN before.state = 'open' THEN before.granted - before.spent ELSE 0 END
FROM before WHERE b.id = before.budget_id AND b.starts = before.starts
"""

_EXPIRED = "SELECT DISTINCT budget_id, starts FROM budget_lease WHERE state = 'open' AND expires <= now() LIMIT $1"
_CHARGE = """
WITH gone AS MATERIALIZED (
    SELECT id, granted - spent AS left_over FROM budget_lease
    WHERE budget_id = $1 AND starts = $2 AND state = 'open' AND expires <= now()
    ORDER BY id FOR UPDATE SKIP LOCKED
), charged AS (
    UPDATE budget_lease l SET state = 'charged' FROM gone WHERE l.id = gone.id
)
UPDATE budget b SET settled = b.settled + g.amount, leased = b.leased - g.amount
FROM (SELECT coalesce(sum(left_over), 0)::bigint AS amount, count(*) AS leases FROM gone) AS g
WHERE b.id = $1 AND b.starts = $2 RETURNING g.leases
"""


class PostgresBank:
    """The `Bank` of a deployment."""

    def __init__(self, database: Database, *, lease_s: float = LEASE_S) -> None:
        self._database = database
        self._lease_s = lease_s

    async def grant(
        self, budget: Budget, lease_id: str, holder: str, spent: int, need: int, want: int
    ) -> Granted | Denied:
        """As `Bank.grant`: one statement, and a second one for the reason of a no."""
        terms = (lease_id, budget.id, budget.cap_microusd, budget.unit)
        row = await self._database.fetchrow(_GRANT, *terms, spent, need, want, holder, self._lease_s)
        if row is not None:
            return Granted(row["granted"], row["settled"], row["leased"], row["left_s"], row["starts"])
        row = await self._database.fetchrow(_STANDING, *terms)
        assert row is not None
        return Denied(row["settled"], row["leased"], row["left_s"], row["stale"], row["starts"])

    async def give_back(self, lease_id: str, spent: int) -> None:
        """As `Bank.give_back`."""
        await self._database.execute(_GIVE_BACK, lease_id, spent)

    async def expire(self) -> int:
        """As `Bank.expire`; and old leases that ended are forgotten."""
        count = 0
        for row in await self._database.fetch(_EXPIRED, EXPIRED_AT_ONCE_MAX):
            count += await self._database.fetchval(_CHARGE, row["budget_id"], row["starts"]) or 0
        await self._database.execute(
            "DELETE FROM budget_lease WHERE state <> 'open' AND expires < now() - $1::text::interval", KEEP_PERIODS
        )
        return count

    async def standing(self) -> list[dict[str, Any]]:
        """Every budget whose period runs now: cap, settled, leased, and when it ends."""
        rows = await self._database.fetch(
            "SELECT id, starts, ends, cap, settled, leased FROM budget WHERE ends > now() ORDER BY id LIMIT 1000"
        )
        return [dict(row) for row in rows]

    async def claim_alert(self, budget_id: str, starts: str, percent: int) -> bool:
        """Whether this process is to post an alert: one does, and another after ten minutes if it did not."""
        return bool(
            await self._database.fetchval(
                "INSERT INTO budget_alert AS a (budget_id, starts, percent) VALUES ($1, $2::text::timestamptz, $3)"
                " ON CONFLICT (budget_id, starts, percent) DO UPDATE SET claimed = now(), tries = a.tries + 1"
                " WHERE a.posted IS NULL AND a.claimed < now() - interval '10 minutes' AND a.tries < 5"
                " RETURNING true",
                *(budget_id, starts, percent),
            )
        )

    async def note_alert_posted(self, budget_id: str, starts: str, percent: int) -> None:
        """It was posted: never again in this period."""
        await self._database.execute(
            "UPDATE budget_alert SET posted = now()"
            " WHERE budget_id = $1 AND starts = $2::text::timestamptz AND percent = $3",
            *(budget_id, starts, percent),
        )
