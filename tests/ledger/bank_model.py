"""The bank as plain Python, statement for statement what `PostgresBank` does, with a clock that tests move."""

from __future__ import annotations

from dataclasses import dataclass, field

from roadbed.kernel.limits import Budget
from roadbed.ledger.budget import LEASE_S, Denied, Granted

PERIOD_S = 4000.0


@dataclass
class Row:
    """A budget in one period."""

    settled: int = 0
    leased: int = 0


@dataclass
class LeaseRow:
    """A lease."""

    period: int
    holder: str
    granted: int = 0
    spent: int = 0
    state: str = "open"
    expires_s: float = 0.0


@dataclass
class ModelBank:
    """One budget, its periods and leases."""

    cap: int
    now_s: float = 0.0
    rows: dict[int, Row] = field(default_factory=dict)
    leases: dict[str, LeaseRow] = field(default_factory=dict)

    @property
    def period(self) -> int:
        """The number of the period that runs."""
        return int(self.now_s // PERIOD_S)

    def grant(self, budget: Budget, lease_id: str, holder: str, spent: int, need: int, want: int) -> Granted | Denied:
        """As `PostgresBank.grant`."""
        lease, period = self.leases.get(lease_id), self.period
        left_s = (period + 1) * PERIOD_S - self.now_s
        row = self.rows.get(period, Row())
        if lease is not None and (lease.state != "open" or lease.period != period):
            return Denied(row.settled, row.leased, left_s, is_stale=True)
        holders = len({other.holder for other in self.leases.values() if other.state == "open"}) or 1
        room = budget.cap_microusd - row.settled - row.leased
        if need > room:
            return Denied(row.settled, row.leased, left_s)
        if lease is None:
            lease = self.leases[lease_id] = LeaseRow(period, holder)
        self.rows[period] = row
        added, news = max(need, min(want, room // (2 * holders))), max(0, spent - lease.spent)
        row.settled += news
        row.leased += added - news
        lease.granted += added
        lease.spent += news
        lease.expires_s = self.now_s + LEASE_S
        return Granted(lease.granted, row.settled, row.leased, left_s)

    def give_back(self, lease_id: str, spent: int) -> None:
        """As `PostgresBank.give_back`."""
        lease = self.leases.get(lease_id)
        if lease is None:
            self.leases[lease_id] = LeaseRow(-1, "", 0, spent, "returned")
        elif lease.state != "returned":
            row = self.rows[lease.period]
            row.settled += spent - (lease.granted if lease.state == "charged" else lease.spent)
            row.leased -= lease.granted - lease.spent if lease.state == "open" else 0
            lease.state, lease.spent = "returned", spent

    def expire(self) -> None:
        """As `PostgresBank.expire`."""
        for lease in self.leases.values():
            if lease.state == "open" and lease.expires_s <= self.now_s:
                row, left_over = self.rows[lease.period], lease.granted - lease.spent
                row.settled += left_over
                row.leased -= left_over
                lease.state = "charged"
