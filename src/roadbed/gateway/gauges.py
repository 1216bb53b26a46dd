"""`Gauges`: the limits that this process counts against, by whose they are, and its share of each of them.

Callers' rates (`server/entrance.py`) and tools' (`tools/toolbox.py`) each have one; the heartbeat of
`server/money.py` tells what was asked for here, and hears it of the others. The invariant: processes that hear of each
other hold shares of a limit that are together about one, and a change of shares gives no process a unit that it did not
have free (`Gauge.set_share`).
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

from roadbed.gateway.limits import Gauge, Kind, Slots, divide
from roadbed.kernel.clock import SYSTEM_CLOCK

GAUGES_MAX = 20_000
DEMANDS_MAX = 2_000
DEMAND_MIN = 0.01


class Gauges:
    """The rates and slots of one room, made when they are first counted against.

    ``is_on`` is False while nothing is limited, so that nobody need be told of it. Over ``gauges_max`` the longest
    unused is forgotten: whoever keeps gauges apart asks `is_full` before, and lets go of them all with `clear`.
    """

    def __init__(
        self, monotonic_s: Callable[[], float] = SYSTEM_CLOCK.monotonic_s, gauges_max: int = GAUGES_MAX
    ) -> None:
        self.monotonic_s = monotonic_s
        self.is_on = False
        self._gauges_max = gauges_max
        self._gauges: OrderedDict[tuple[str, Kind, int, float], Gauge] = OrderedDict()
        self._slots: dict[tuple[str, int], Slots] = {}
        self._shares: Mapping[str, Mapping[str, float]] = {}
        self._holder = ""
        self._processes = 1

    def __iter__(self) -> Iterator[Gauge]:
        return iter(self._gauges.values())

    @property
    def is_full(self) -> bool:
        """Whether another gauge takes the place of one."""
        return len(self._gauges) >= self._gauges_max

    def clear(self) -> None:
        """Forget every rate, and what was counted."""
        self._gauges.clear()

    def gauge(self, owner: str, kind: Kind, limit: int, period_s: float) -> Gauge:
        """The rate of this owner, with what it counted so far."""
        key = (owner, kind, limit, period_s)
        gauge = self._gauges.get(key)
        if gauge is None:
            if self.is_full:
                self._gauges.popitem(last=False)
            gauge = self._gauges[key] = Gauge(owner, kind, limit, period_s)
            gauge.set_share(self._share_of(f"{owner}/{kind}"), self.monotonic_s())
        else:
            self._gauges.move_to_end(key)
        return gauge

    def slots(self, owner: str, limit: int) -> Slots:
        """The slots of this owner."""
        slots = self._slots.get((owner, limit))
        if slots is None:
            slots = self._slots[owner, limit] = Slots(owner, limit)
            slots.set_share(self._share_of(f"{owner}/slots"))
        return slots

    def all_slots(self) -> list[Slots]:
        """All slots that were asked for."""
        return list(self._slots.values())

    # -- several processes --------------------------------------------------------------------------------------------

    def divide_by(self, workers: int) -> None:
        """Hold no more than an even share until something is heard of as many processes."""
        self._processes = workers

    def demand(self) -> dict[str, float]:
        """What this process was asked for since the last time, by limit: the largest `DEMANDS_MAX` of it."""
        asked = {}
        for gauge in self._gauges.values():
            if gauge.demand:
                asked[f"{gauge.id}/{gauge.kind}"] = gauge.demand
                # A process that was just busy keeps some of its share.
                gauge.demand = gauge.demand * 0.5 if gauge.demand > DEMAND_MIN else 0.0
        asked.update({f"{slots.id}/slots": float(slots.used) for slots in self._slots.values() if slots.used})
        if len(asked) > DEMANDS_MAX:
            asked = dict(heapq.nlargest(DEMANDS_MAX, asked.items(), key=lambda pair: pair[1]))
        return asked

    def share(self, demands: Mapping[str, Mapping[str, float]], holder: str) -> None:
        """Hold the shares that follow from what every process was asked for."""
        self._shares, self._holder = demands, holder
        now_s = self.monotonic_s()
        for gauge in self._gauges.values():
            gauge.set_share(self._share_of(f"{gauge.id}/{gauge.kind}"), now_s)
        for slots in self._slots.values():
            slots.set_share(self._share_of(f"{slots.id}/slots"))

    def _share_of(self, limit_id: str) -> float:
        return divide(self._shares, self._holder, limit_id, self._processes)
