"""Money that a process may spend: its leases, and reservations inside them. Pure; the bank behind it is a `Bank`.

A lease is a slice of a budget that the database has set aside for this process. A call reserves its upper bound before
it starts and settles what it cost; both are plain arithmetic. The invariant: what is spent and reserved in a lease is
never more than was granted, unless a provider charged more than the bound it was given (`Lease.overrun`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import msgspec

from roadbed.kernel.ids import new_id
from roadbed.kernel.limits import Budget

LEASE_S = 900.0
LEASE_MARGIN_S = 5.0
"""A holder stops using a lease so long before the database may charge it."""

LATE_S = 60.0
IDLE_S = 60.0
CHECKPOINT_S = 5.0
RENEW_S = LEASE_S / 3
ASKED_TIMES = 16
"""A grant that somebody waits for is so many times what is waited for, where the budget allows."""


class Lease:
    """A slice of one budget. ``room`` is what may still be reserved: granted - spent - reserved."""

    __slots__ = ("granted", "id", "overrun", "reserved", "room", "spent", "told_s", "told_spent", "use_until_s",
                 "used_s")  # fmt: skip

    def __init__(self, now_s: float) -> None:
        self.id = new_id()
        self.granted = self.spent = self.reserved = self.room = self.told_spent = self.overrun = 0
        self.use_until_s = self.told_s = self.used_s = now_s


class Reservation(msgspec.Struct, gc=False):
    """One call's hold on a lease of each budget that it counts against."""

    leases: tuple[Lease, ...]
    amount: int

    def settle(self, actual: int) -> None:
        """The call is over and cost ``actual``. Takes effect once."""
        leases, self.leases = self.leases, ()
        amount = self.amount
        for lease in leases:
            lease.reserved -= amount
            lease.spent += actual
            lease.room += amount - actual
            if actual > amount:
                lease.overrun += actual - amount


@dataclass(frozen=True, slots=True)
class Granted:
    """The bank's yes: all that the lease was granted so far, how the budget stands, how long its period lasts."""

    granted: int
    settled: int
    leased: int
    period_left_s: float
    starts: str = ""


@dataclass(frozen=True, slots=True)
class Denied:
    """The bank's no. ``is_stale`` when the lease itself has ended (charged, returned, of another period)."""

    settled: int
    leased: int
    period_left_s: float
    is_stale: bool = False
    starts: str = ""


class Bank(Protocol):
    """Where budgets are kept: the database. Each call is atomic and may be repeated with the same arguments.

    Raises `Unavailable` or `DeadlineExceeded` when it cannot be known whether anything was done.
    """

    async def grant(
        self, budget: Budget, lease_id: str, holder: str, spent: int, need: int, want: int
    ) -> Granted | Denied:
        """Add at least ``need`` and, where there is plenty, ``want`` to a lease, or open it; note what it spent."""

    async def give_back(self, lease_id: str, spent: int) -> None:
        """End a lease for good: what it spent in truth replaces whatever was set aside or charged for it."""

    async def expire(self) -> int:
        """Charge leases in full whose time is over and whose holder was not heard; how many there were."""


class Account:
    """One budget in one process: the lease in use, and those that wait for their last calls to end. ``waiting`` counts
    whoever is about to reserve, or asks the bank.
    """

    __slots__ = ("__weakref__", "_of_late", "_of_old", "budget", "lease", "period_ends_s", "retired", "settled",
                 "starts", "taken", "waiting")  # fmt: skip

    def __init__(self, budget: Budget, now_s: float) -> None:
        self.budget = budget
        self.lease = Lease(now_s)
        self.retired: list[Lease] = []
        self._of_late = self._of_old = 0.0  # micro-USD per second
        self.period_ends_s = now_s
        self.settled = self.taken = 0  # as the bank said last; `taken` with what others hold
        self.starts = ""
        self.waiting = 0

    @property
    def rate(self) -> float:
        """Micro-USD per second: of the last minute, or of the length of a lease where that is more.

        The first makes the lease of a process that has just begun, or wakes after a quiet night, last as long as any.
        """
        return max(self._of_late, self._of_old)

    @property
    def is_in_use(self) -> bool:
        """Whether a call holds money of it, or waits for some."""
        return self.waiting > 0 or self.lease.reserved > 0 or any(lease.reserved for lease in self.retired)

    @property
    def holds_money(self) -> bool:
        """Whether something of it must still go back to the bank."""
        return self.lease.granted > 0 or bool(self.retired)

    def take(self, amount: int, now_s: float) -> Lease | None:
        """Reserve; None when the lease has no room for it, or its time is over."""
        lease = self.lease
        if lease.room < amount or now_s >= lease.use_until_s:
            return None
        lease.room -= amount
        lease.reserved += amount
        lease.used_s = now_s
        return lease

    def untake(self, lease: Lease, amount: int) -> None:
        """Give back what `take` reserved for a call that was not made."""
        lease.room += amount
        lease.reserved -= amount

    def ask(self, amount: int, now_s: float) -> tuple[Lease, int, int, int]:
        """What to ask the bank for, so that ``amount`` fits: the lease, what it spent, the need and the wish."""
        lease = self.lease
        if now_s >= lease.use_until_s and lease.granted:
            self.retire(now_s)
            lease = self.lease
        need = max(0, amount - lease.room)
        recent = max(0, int(self.rate * LEASE_S) - lease.room)
        return lease, min(lease.spent, lease.granted), need, max(need, amount * ASKED_TIMES if need else 0, recent)

    def granted(self, lease: Lease, told_spent: int, answer: Granted, asked_s: float) -> None:
        """Take a yes to a question of `ask` that was put at ``asked_s``."""
        self._heard(answer, asked_s)
        lease.room += answer.granted - lease.granted
        lease.granted = answer.granted
        lease.use_until_s = min(asked_s + LEASE_S - LEASE_MARGIN_S, self.period_ends_s)
        passed_s = max(asked_s - lease.told_s, 1e-3)
        rate = (told_spent - lease.told_spent) / passed_s
        self._of_late += min(1.0, passed_s / LATE_S) * (rate - self._of_late)
        self._of_old += min(1.0, passed_s / LEASE_S) * (rate - self._of_old)
        lease.told_spent, lease.told_s = told_spent, asked_s

    def denied(self, lease: Lease, answer: Denied, asked_s: float) -> None:
        """Take a no to a question of `ask`; in place of a stale lease another one begins."""
        self._heard(answer, asked_s)
        if answer.is_stale and lease is self.lease:
            self.retire(asked_s)

    def _heard(self, answer: Granted | Denied, asked_s: float) -> None:
        self.settled, self.taken, self.starts = answer.settled, answer.settled + answer.leased, answer.starts
        self.period_ends_s = asked_s + answer.period_left_s

    def retire(self, now_s: float) -> None:
        """Use another lease from now on; this one is returned once its last call has ended."""
        if self.lease.granted:
            self.retired.append(self.lease)
        self.lease = Lease(now_s)

    def is_idle(self, now_s: float) -> bool:
        """Whether nobody has used the lease for a while."""
        lease = self.lease
        return lease.granted > 0 and not lease.reserved and now_s - lease.used_s >= IDLE_S

    def must_ask(self, now_s: float) -> bool:
        """Whether the bank should hear of the lease in use, off the path of any request. An idle one is returned only
        when the bank has answered: while it is away, that lease is all that the next call can be paid from.
        """
        lease = self.lease
        if not lease.granted:
            return False
        if now_s >= lease.use_until_s:
            self.retire(now_s)
            return False
        if self.is_idle(now_s):
            return True
        is_low = lease.room < self.rate * LEASE_S / 4
        has_news = lease.spent != lease.told_spent and now_s - lease.told_s >= CHECKPOINT_S
        return is_low or has_news or now_s - lease.told_s >= RENEW_S

    def to_return(self, *, is_last: bool = False) -> list[tuple[Lease, int]]:
        """Retired leases that can be returned, with what they spent. At the last, all, with what is reserved as spent:
        what a call that still runs will cost is not known, and never more.
        """
        if is_last and self.lease.granted:
            self.retire(self.lease.told_s)
        return [(lease, lease.spent + lease.reserved) for lease in self.retired if is_last or not lease.reserved]

    def returned(self, lease: Lease) -> None:
        """The bank has it."""
        self.retired = [other for other in self.retired if other is not lease]

    def used_percent(self) -> int:
        """How much of the cap is spent, as far as this process knows."""
        cap, lease = self.budget.cap_microusd, self.lease
        spent = self.settled + lease.spent - lease.told_spent
        return min(100, spent * 100 // cap) if cap else 100
