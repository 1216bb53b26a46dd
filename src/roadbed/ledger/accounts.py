"""`Accounts`: which budgets one process keeps money for, at most so many at a time. Pure.

When all places are taken, an account that no call uses makes room: what it leased is retired, to be returned to the
bank, and whoever still holds its purse takes a place again with the next call. The invariants: one budget has one
`Account` in a process, whoever asks; one that a call uses keeps its place; no lease is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from weakref import WeakValueDictionary

from roadbed.kernel.errors import Unavailable
from roadbed.kernel.limits import Budget
from roadbed.ledger.budget import Account

ACCOUNTS_MAX = 10_000
LEAVING_MAX = 10_000


class BudgetUnavailable(Unavailable):
    """The database is away and the money leased before is spent, so paid calls are refused; free endpoints serve."""

    code = "gateway.budget_unavailable"
    hint = "try again in a moment; /readyz says which part is not ready"


class BudgetsInUse(BudgetUnavailable):
    """Calls of as many budgets as one process keeps are under way, so that no other budget has a place just now."""

    code = "gateway.budgets_in_use"
    hint = "try again in a moment, serve with more workers, or give fewer keys a budget of their own"


class Accounts:
    """The accounts of one process. ``leaving`` are those without a place whose leases are not returned yet."""

    __slots__ = ("_known", "_leaving", "_placed", "most")

    def __init__(self, most: int = ACCOUNTS_MAX) -> None:
        self.most = most
        self._placed: dict[str, Account] = {}
        self._leaving: dict[str, Account] = {}
        self._known: WeakValueDictionary[str, Account] = WeakValueDictionary()

    def __iter__(self) -> Iterator[Account]:
        yield from list(self._placed.values())
        yield from list(self._leaving.values())

    def __len__(self) -> int:
        return len(self._placed)

    def of(self, budget: Budget, now_s: float) -> Account:
        """The account of a budget, with a place where one is free."""
        account = self._known.get(budget.id)
        if account is None:
            account = self._known[budget.id] = Account(budget, now_s)
        account.budget = budget  # the cap may have changed
        if len(self._placed) < self.most:
            self._place(account)
        return account

    def place(self, account: Account, now_s: float) -> None:
        """Give an account a place before it leases anything. Raises `BudgetsInUse`."""
        if account.budget.id not in self._placed:
            if not self._make_room(now_s):
                raise BudgetsInUse(f"calls of {self.most} budgets are under way", retry_after_s=1)
            self._place(account)

    def left(self, account: Account) -> None:
        """Some lease of it was returned: one that was leaving is gone once all are."""
        if not account.retired:
            self._leaving.pop(account.budget.id, None)

    def _place(self, account: Account) -> None:
        self._leaving.pop(account.budget.id, None)
        self._placed[account.budget.id] = account

    def _make_room(self, now_s: float) -> bool:
        """Whether there is a place. Those in use move behind the others, so that a search mostly ends at once."""
        placed = self._placed
        if len(placed) < self.most:
            return True
        for _ in range(len(placed)):
            id = next(iter(placed))
            account = placed.pop(id)
            if account.is_in_use or (account.holds_money and len(self._leaving) >= LEAVING_MAX):
                placed[id] = account
                continue
            account.retire(now_s)
            if account.retired:
                self._leaving[id] = account
            return True
        return False
