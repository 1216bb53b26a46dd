"""Who waits for a route that is full, and who goes next: a bounded queue, fair between teams, as a pure state machine.

Teams take turns. While the queue has not been empty for `INTERVAL_S` the route is overloaded: the newest of a team
goes first, and who has waited longer than `TARGET_S` is given up, because its caller has little time left (adaptive
LIFO and controlled delay, Maurer, "Fail at Scale", 2015). Time is given by the caller. The invariant: never more than
the capacity is out, everybody who waits leaves exactly once, and nobody waits while there is room.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

TARGET_S = 0.1
INTERVAL_S = 1.0
SERVICE_WEIGHT = 0.1
TEAMS_MAX = 1024

Verdict = Literal["go", "wait", "late", "full"]
Ticket = TypeVar("Ticket")


@dataclass(slots=True)
class Waiting(Generic[Ticket]):
    """One that waits: since when, and until when it makes sense to begin."""

    ticket: Ticket
    since_s: float
    begin_by_s: float


@dataclass(slots=True)
class FairQueue(Generic[Ticket]):
    """The queue of one route. ``length_max`` bounds all that wait; no team holds more than its share of it."""

    length_max: int
    out: int = 0
    waiting: int = 0
    service_s: float | None = None
    _teams: OrderedDict[str, deque[Waiting[Ticket]]] = field(default_factory=OrderedDict)
    _empty_at_s: float | None = None

    def is_overloaded(self, now_s: float) -> bool:
        """Whether somebody has been waiting for all of the last `INTERVAL_S`."""
        return self._empty_at_s is not None and now_s - self._empty_at_s >= INTERVAL_S

    def wait_s(self, capacity: int) -> float:
        """How long one more would wait, by the pace of the last ones; zero while nothing is known."""
        if self.service_s is None:
            return 0.0
        return (self.waiting + 1) * self.service_s / max(1, capacity)

    def offer(self, ticket: Ticket, team: str, now_s: float, begin_by_s: float, capacity: int) -> Verdict:
        """One more arrives. ``go``: it is out now; ``wait``: a later `next` names it; else it is not taken.

        ``late``: it would begin after ``begin_by_s``; ``full``: its team's places are taken.
        """
        if self.out < capacity and not self.waiting:
            self.out += 1
            return "go"
        # While overloaded the newest goes first, so what waits says nothing of how long this one would.
        if not self.is_overloaded(now_s) and now_s + self.wait_s(capacity) > begin_by_s:
            return "late"
        line = self._teams.get(team)
        teams = len(self._teams) + (line is None)
        if self.waiting >= self.length_max or len(line or ()) >= max(1, self.length_max // teams) or teams > TEAMS_MAX:
            return "full"
        if line is None:
            line = self._teams[team] = deque()
        if not self.waiting:
            self._empty_at_s = now_s
        line.append(Waiting(ticket, now_s, begin_by_s))
        self.waiting += 1
        return "wait"

    def leave(self, took_s: float | None) -> None:
        """One that was out has ended; ``took_s`` is what it took, None where that says nothing."""
        self.out -= 1
        if took_s is not None:
            known = self.service_s
            self.service_s = took_s if known is None else known + SERVICE_WEIGHT * (took_s - known)

    def next(self, now_s: float, capacity: int) -> tuple[list[Ticket], list[Ticket]]:
        """Who goes now, and who is given up. To be called after `leave`, and when capacity or time has moved."""
        given_up = self._give_up(now_s)
        going: list[Ticket] = []
        while self.waiting and self.out < capacity:
            team, line = next(iter(self._teams.items()))
            found = line.pop() if self.is_overloaded(now_s) else line.popleft()
            self._teams.move_to_end(team)
            if not line:
                del self._teams[team]
            self._less(1)
            self.out += 1
            going.append(found.ticket)
        return going, given_up

    def withdraw(self, ticket: Ticket) -> bool:
        """One that waits has left by itself. False when it does not wait."""
        for team, line in self._teams.items():
            for item in line:
                if item.ticket is ticket:
                    line.remove(item)
                    if not line:
                        del self._teams[team]
                    self._less(1)
                    return True
        return False

    def _give_up(self, now_s: float) -> list[Ticket]:
        patience_s = TARGET_S if self.is_overloaded(now_s) else float("inf")
        given_up: list[Ticket] = []
        for team in list(self._teams):
            line = self._teams[team]
            kept: deque[Waiting[Ticket]] = deque()
            for item in line:
                if now_s - item.since_s > patience_s or now_s > item.begin_by_s:
                    given_up.append(item.ticket)
                else:
                    kept.append(item)
            if kept:
                self._teams[team] = kept
            else:
                del self._teams[team]
        self._less(len(given_up))
        return given_up

    def _less(self, count: int) -> None:
        self.waiting -= count
        if not self.waiting:
            self._empty_at_s = None
