"""`Gauges`: the limits that this process counts against, by whose they are, and its share of each of them.

Callers' rates (`server/entrance.py`) and tools' (`tools/toolbox.py`) each have one; the heartbeat of
`server/money.py` tells what was asked for here, and hears it of the others. The invariant: processes that hear of each
other hold shares of a limit that are together about one, and a change of shares gives no process a unit that it did not
have free (`Gauge.set_share`); nobody empties another one's count by making many of their own.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from weakref import WeakValueDictionary

from roadbed.gateway.limits import Gauge, Kind, Slots, divide
from roadbed.kernel.clock import SYSTEM_CLOCK

GAUGES_MAX = 20_000
DEMANDS_MAX = 2_000
DEMAND_MIN = 0.01
LOOKED_AT_MAX = 64
"""How many of the longest unused are looked at for the one to forget."""


class Gauges:
    """The rates and slots of one room, made when they are first counted against.

    ``is_on`` is False while nothing is limited, so that nobody need be told of it. Over ``gauges_max`` one is let go
    of that is all free again, or else the least used of some (`LOOKED_AT_MAX`). Whoever holds on to one counts on with
    it, and whoever asks for it meanwhile is given the same.
    """

    def __init__(
        self, monotonic_s: Callable[[], float] = SYSTEM_CLOCK.monotonic_s, gauges_max: int = GAUGES_MAX
    ) -> None:
        self.monotonic_s = monotonic_s
        self.is_on = False
        self._gauges_max = gauges_max
        self._gauges: OrderedDict[tuple[str, Kind, int, float], Gauge] = OrderedDict()
        self._living: WeakValueDictionary[tuple[str, Kind, int, float], Gauge] = WeakValueDictionary()
        self._slots: dict[tuple[str, int], Slots] = {}
        self._living_slots: WeakValueDictionary[tuple[str, int], Slots] = WeakValueDictionary()
        self._kept: deque[tuple[str, int]] = deque()
        self._shares: Mapping[str, Mapping[str, float]] = {}
        self._holder = ""
        self._processes = 1

    def __iter__(self) -> Iterator[Gauge]:
        return iter(list(self._living.values()))

    def gauge(self, owner: str, kind: Kind, limit: int, period_s: float) -> Gauge:
        """The rate of this owner, with what it counted so far."""
        key = (owner, kind, limit, period_s)
        gauge = self._gauges.get(key)
        if gauge is not None:
            self._gauges.move_to_end(key)
            return gauge
        gauge = self._living.get(key)
        if gauge is None:
            gauge = self._living[key] = Gauge(owner, kind, limit, period_s)
            gauge.set_share(self._share_of(f"{owner}/{kind}"), self.monotonic_s())
        if len(self._gauges) >= self._gauges_max:
            self._let_go()
        self._gauges[key] = gauge
        return gauge

    def _let_go(self) -> None:
        """Let go of a gauge that is all free again, or of the least used of those that were not asked for longest."""
        now_s, least, least_part = self.monotonic_s(), next(iter(self._gauges)), math.inf
        for _ in range(min(LOOKED_AT_MAX, len(self._gauges))):
            key = next(iter(self._gauges))
            part = self._gauges[key].used_part(now_s)
            if part < least_part:
                least, least_part = key, part
            if not part:
                break
            self._gauges.move_to_end(key)
        del self._gauges[least]

    def slots(self, owner: str, limit: int) -> Slots:
        """The slots of this owner."""
        key = (owner, limit)
        slots = self._living_slots.get(key)
        if slots is None:
            slots = self._living_slots[key] = Slots(owner, limit)
            slots.set_share(self._share_of(f"{owner}/slots"))
        if key not in self._slots:
            self._slots[key] = slots
            self._kept.append(key)
            self._let_go_of_slots()
        return slots

    def _let_go_of_slots(self) -> None:
        """Let go of slots that nobody uses, where there are too many; one that is used has a request under way."""
        for _ in range(min(LOOKED_AT_MAX, len(self._kept) - self._gauges_max)):
            key = self._kept.popleft()
            if self._slots[key].used:
                self._kept.append(key)
            else:
                del self._slots[key]

    def all_slots(self) -> list[Slots]:
        """All slots that are kept, or that somebody holds on to."""
        return list(self._living_slots.values())

    # -- several processes --------------------------------------------------------------------------------------------

    def divide_by(self, workers: int) -> None:
        """Hold no more than an even share until something is heard of as many processes."""
        self._processes = workers

    def demand(self) -> dict[str, float]:
        """What this process was asked for since the last time, by limit: the largest `DEMANDS_MAX` of it."""
        asked = {}
        for gauge in self:
            if gauge.demand:
                asked[f"{gauge.id}/{gauge.kind}"] = gauge.demand
                # A process that was just busy keeps some of its share.
                gauge.demand = gauge.demand * 0.5 if gauge.demand > DEMAND_MIN else 0.0
        asked.update({f"{slots.id}/slots": float(slots.used) for slots in self.all_slots() if slots.used})
        if len(asked) > DEMANDS_MAX:
            asked = dict(heapq.nlargest(DEMANDS_MAX, asked.items(), key=lambda pair: pair[1]))
        return asked

    def share(self, demands: Mapping[str, Mapping[str, float]], holder: str) -> None:
        """Hold the shares that follow from what every process was asked for."""
        self._shares, self._holder = demands, holder
        now_s = self.monotonic_s()
        for gauge in self:
            gauge.set_share(self._share_of(f"{gauge.id}/{gauge.kind}"), now_s)
        for slots in self.all_slots():
            slots.set_share(self._share_of(f"{slots.id}/slots"))

    def _share_of(self, limit_id: str) -> float:
        return divide(self._shares, self._holder, limit_id, self._processes)
