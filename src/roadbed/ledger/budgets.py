"""`Budgets`: the accounts of one process, kept supplied with leases by one task, so that requests hardly ever wait.

`Purse.reserve` is the request path: arithmetic. `Purse.obtain` asks the bank when there is no room. What ends while
the database is away is written to a folder, and returned from there by whichever process comes first. The invariant:
no paid call runs without a reservation inside a live lease; money fails closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import WeakKeyDictionary

import msgspec

from roadbed.kernel.clock import SYSTEM_CLOCK, Clock
from roadbed.kernel.errors import DeadlineExceeded, RateLimited, RoadbedError, Unavailable
from roadbed.kernel.ids import new_id
from roadbed.kernel.limits import Budget
from roadbed.ledger.accounts import Accounts, BudgetUnavailable
from roadbed.ledger.budget import Account, Bank, Denied, Granted, Lease, Reservation
from roadbed.ledger.metrics import Metrics

log = logging.getLogger("roadbed.ledger")

TEND_INTERVAL_S = 1.0
EXPIRE_INTERVAL_S = 30.0
GRANT_TRIES_MAX = 3
FAILURES_MAX = 3
SPOOLED_MAX = 10_000
CLOSE_S = 5.0


class BudgetExceeded(RateLimited):
    """The budget of the team, app or key is spent until its period ends; endpoints of price 0 are still asked."""

    code = "gateway.budget_exceeded"
    retryable = False
    hint = "wait until the budget's period ends, or raise `budget`"


class Purse:
    """The budgets that one caller's calls count against, together."""

    __slots__ = ("_accounts", "_budgets", "_monotonic_s")

    def __init__(self, budgets: Budgets, accounts: tuple[Account, ...], monotonic_s: Callable[[], float]) -> None:
        self._budgets = budgets
        self._accounts = accounts
        self._monotonic_s = monotonic_s

    def reserve(self, amount: int) -> Reservation | None:
        """Hold so many micro-USD of each budget; None when a lease has no room. Never waits."""
        accounts = self._accounts
        now_s = self._monotonic_s()
        if len(accounts) == 1:  # as `Account.take`, without the call
            lease = accounts[0].lease
            if lease.room < amount or now_s >= lease.use_until_s:
                return None
            lease.room -= amount
            lease.reserved += amount
            lease.used_s = now_s
            return Reservation((lease,), amount)
        taken: list[Lease] = []
        for account in accounts:
            held_here = account.take(amount, now_s)
            if held_here is None:
                for other, held in zip(accounts, taken, strict=False):
                    other.untake(held, amount)
                return None
            taken.append(held_here)
        return Reservation(tuple(taken), amount)

    async def obtain(self, amount: int) -> Reservation:
        """As `reserve`, with more from the bank where that is needed. `BudgetExceeded`, `BudgetUnavailable`."""
        for account in self._accounts:
            account.waiting += 1  # so that it keeps its place until its money is reserved
        try:
            for _ in range(GRANT_TRIES_MAX):
                reservation = self.reserve(amount)
                if reservation is not None:
                    return reservation
                for account in self._accounts:
                    await self._budgets.supply(account, amount)
            reservation = self.reserve(amount)
        finally:
            for account in self._accounts:
                account.waiting -= 1
        if reservation is None:
            raise BudgetUnavailable("too many calls want the budget's money at once")
        return reservation

    def used_percent(self) -> int:
        """The share of the budget that is nearest to its end."""
        return max([account.used_percent() for account in self._accounts], default=0)


class Share(Purse):
    """A purse inside one reservation: what its holder sets aside for a part of a call, which no other part can spend.

    ``hold`` is its money, None for none. Whoever makes it calls `close` when the part is over, and nothing before.
    """

    __slots__ = ("_hold", "_lease")

    def __init__(self, hold: Reservation | None) -> None:
        self._hold = hold
        self._lease = Lease(0.0)
        self._lease.room = hold.amount if hold is not None else 0

    def reserve(self, amount: int) -> Reservation | None:
        """Hold so much of the share; None when it has no room."""
        lease = self._lease
        if lease.room < amount:
            return None
        lease.room -= amount
        lease.reserved += amount
        return Reservation((lease,), amount)

    async def obtain(self, amount: int) -> Reservation:
        """As `reserve`; raises `BudgetUnavailable`: a share does not grow."""
        reservation = self.reserve(amount)
        if reservation is None:
            raise BudgetUnavailable("this part of the call has spent its share of the budget")
        return reservation

    def close(self) -> None:
        """Give back what was not spent."""
        if self._hold is not None:
            self._hold.settle(self._lease.spent + self._lease.reserved)


class Budgets:
    """One per process. `start` it; `close` gives every lease back, or leaves word on disk for another process."""

    def __init__(
        self,
        bank: Bank,
        metrics: Metrics,
        folder: Path,
        *,
        is_owner: bool = True,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.holder = new_id()
        self.on_used: Callable[[Account, int], None] = lambda account, percent: None
        self._bank = bank
        self._metrics = metrics
        self._folder = folder
        self._is_owner = is_owner
        self._clock = clock
        self._accounts = Accounts()
        self._locks: WeakKeyDictionary[Account, asyncio.Lock] = WeakKeyDictionary()
        self._task: asyncio.Task[None] | None = None
        self._expired_s = 0.0
        self._next_turn = 0
        self._is_away = False
        metrics.declare("roadbed_budget_refused_total", "counter", "calls refused for want of money", "budget")
        metrics.declare("roadbed_budget_overrun_microusd_total", "counter", "charged above the bound that was sent")
        metrics.gauge_from("roadbed_budget_leased_microusd", "money leased by this process", self._leased)

    def _leased(self) -> float:
        return float(sum(account.lease.granted - account.lease.spent for account in self._accounts))

    def purse(self, budgets: Iterable[Budget]) -> Purse:
        """The purse over some budgets; their accounts are shared with every other purse over them."""
        now_s = self._clock.monotonic_s()
        accounts = tuple([self._accounts.of(budget, now_s) for budget in budgets])
        return Purse(self, accounts, self._clock.monotonic_s)

    @asynccontextmanager
    async def _lock(self, account: Account) -> AsyncIterator[None]:
        """One asks the bank for an account at a time; meanwhile it keeps its place."""
        account.waiting += 1
        try:
            async with self._locks.setdefault(account, asyncio.Lock()):
                yield
        finally:
            account.waiting -= 1

    async def supply(self, account: Account, amount: int) -> None:
        """Make room for ``amount``, one caller at a time. `BudgetExceeded`, `BudgetUnavailable`."""
        self._accounts.place(account, self._clock.monotonic_s())
        async with self._lock(account):
            for _ in range(GRANT_TRIES_MAX):
                now_s = self._clock.monotonic_s()
                if account.lease.room >= amount and now_s < account.lease.use_until_s:
                    return
                try:
                    answer = await self._ask(account, amount)
                except (Unavailable, DeadlineExceeded):
                    self._refused(account)
                    raise BudgetUnavailable(
                        f"{account.budget.title} cannot be asked while the database is away", retry_after_s=5
                    ) from None
                if isinstance(answer, Denied) and not answer.is_stale:
                    self._refused(account)
                    self.on_used(account, 100)
                    raise self._exceeded(account, answer)
        raise BudgetUnavailable(f"{account.budget.title} changed too often while it was asked", retry_after_s=1)

    async def _ask(self, account: Account, amount: int) -> Granted | Denied:
        asked_s = self._clock.monotonic_s()
        lease, spent, need, want = account.ask(amount, asked_s)
        answer = await self._bank.grant(account.budget, lease.id, self.holder, spent, need, want)
        if isinstance(answer, Granted):
            account.granted(lease, spent, answer, asked_s)
        else:
            account.denied(lease, answer, asked_s)
        return answer

    def _refused(self, account: Account) -> None:
        self._metrics.add("roadbed_budget_refused_total", (account.budget.id,))

    @staticmethod
    def _exceeded(account: Account, answer: Denied) -> BudgetExceeded:
        hours, minutes = divmod(int(answer.period_left_s) // 60, 60)
        cap = account.budget.cap_microusd / 1e6
        return BudgetExceeded(
            f"{account.budget.title} ({cap:g} USD/{account.budget.unit}) has no room for this call;"
            f" it resets in {hours} h {minutes} min",
            retry_after_s=max(1.0, answer.period_left_s),
        )

    # -- the task -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start tending leases."""
        self._task = asyncio.create_task(self._tend_loop(), name="budgets")
        self._task.add_done_callback(_report_crash)

    async def _tend_loop(self) -> None:
        while True:
            try:
                await self.tend()
                self._is_away = False
            except (Unavailable, DeadlineExceeded) as error:
                if not self._is_away:
                    log.warning("budgets: %s; what is leased is still spent, then paid calls are refused", error.code)
                self._is_away = True
            await asyncio.sleep(TEND_INTERVAL_S)

    async def tend(self) -> None:
        """Renew leases that run low or old, tell what was spent, return those that ended.

        An account that fails holds up no other; after `FAILURES_MAX` the bank is away, and the next round begins with
        those that had no turn. Raises what failed first: `Unavailable`, `DeadlineExceeded`.
        """
        accounts = list(self._accounts)
        begin = self._next_turn % max(1, len(accounts))
        self._next_turn = 0
        failures: list[RoadbedError] = []
        for turn, account in enumerate(accounts[begin:] + accounts[:begin], begin + 1):
            try:
                await self._tend_one(account)
            except (Unavailable, DeadlineExceeded) as error:
                failures.append(error)
                if len(failures) == FAILURES_MAX:
                    self._next_turn = turn
                    raise failures[0] from None
        now_s = self._clock.monotonic_s()
        if self._is_owner and now_s - self._expired_s >= EXPIRE_INTERVAL_S:
            self._expired_s = now_s
            await self.replay()
            await self._bank.expire()
        if failures:
            raise failures[0]

    async def _tend_one(self, account: Account) -> None:
        if account.must_ask(self._clock.monotonic_s()):
            async with self._lock(account):
                await self._ask(account, 0)
            self.on_used(account, account.used_percent())
            if account.is_idle(now_s := self._clock.monotonic_s()):
                account.retire(now_s)
        for lease, spent in account.to_return():
            await self._give_back(account, lease, spent)

    async def _give_back(self, account: Account, lease: Lease, spent: int) -> None:
        await self._bank.give_back(lease.id, spent)
        account.returned(lease)
        self._accounts.left(account)
        if lease.overrun:
            self._metrics.add("roadbed_budget_overrun_microusd_total", amount=lease.overrun)
            log.error("%s: calls cost %d micro-USD above their bound", account.budget.title, lease.overrun)

    # -- the end ------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Return every lease; when the database is away, write down what to return."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        is_away = False
        for account in self._accounts:
            for lease, spent in account.to_return(is_last=True):
                try:
                    if not is_away:
                        async with asyncio.timeout(CLOSE_S):
                            await self._give_back(account, lease, spent)
                        continue
                except (RoadbedError, TimeoutError):
                    is_away = True
                await asyncio.to_thread(self._write_down, lease.id, spent)

    def _write_down(self, lease_id: str, spent: int) -> None:
        path = self._folder / f"{lease_id}.lease"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = path.with_suffix(".part")
            with part.open("wb") as file:
                file.write(msgspec.json.encode(_Left(lease_id, spent)))
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            log.error("a lease cannot be written down and will be charged in full: %s", error.strerror)

    async def replay(self) -> int:
        """Return what ended processes wrote down; how many leases. Doing it twice changes nothing."""
        count = 0
        for path in sorted(self._folder.glob("*.lease"))[:SPOOLED_MAX]:
            try:
                left = msgspec.json.decode(await asyncio.to_thread(path.read_bytes), type=_Left)
            except (OSError, msgspec.DecodeError):
                log.error("the note of a lease cannot be read, so it is charged in full: %s", path.name)
                with contextlib.suppress(OSError):
                    path.rename(path.with_suffix(".damaged"))
                continue
            await self._bank.give_back(left.lease, left.spent)
            with contextlib.suppress(OSError):
                path.unlink()
            count += 1
        return count


class _Left(msgspec.Struct, frozen=True):
    """What a process left to be returned."""

    lease: str
    spent: int


def _report_crash(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.critical("leases of money are no longer renewed", exc_info=task.exception())
