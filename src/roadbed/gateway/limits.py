"""Rates and concurrency: what a caller's key, team, app and route may ask for. Pure; the generic cell rate algorithm.

A `LimitSet` is what one caller's requests to one app or route count against; `admit` takes all of it or nothing, and
gives a `Pass` that is closed when the request ends. Over several processes each holds a share of every limit
(`set_share`, `gauges.py`). The invariant: over any stretch of time a gauge lets no more through than its burst and its
rate times that stretch; a slot is given back exactly once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from roadbed.kernel.errors import RateLimited
from roadbed.ledger.budgets import Purse
from roadbed.ledger.trace import Trace

ESTIMATED_TOKENS_PER_BYTE = 0.3
SHARE_MIN = 0.01
Kind = Literal["requests", "tokens", "input_tokens", "output_tokens"]
_SHOWN = (
    b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\nx-ratelimit-reset-requests: %.3fs\r\n"
)
KINDS: tuple[Kind, ...] = ("requests", "tokens", "input_tokens", "output_tokens")


class RateExceeded(RateLimited):
    """A rate of the key, team, app or route is used up; ``retry-after`` says when it is not."""

    code = "limits.rate_exceeded"
    hint = "send fewer requests at a time, or raise `rate` or `tokens` in the manifest"
    headers = b""


class ConcurrencyExceeded(RateLimited):
    """As many requests of the key, team, app or route as may run at a time are under way."""

    code = "limits.concurrency_exceeded"
    hint = "wait for an answer before the next request, or raise `concurrency` in the manifest"
    headers = b""


class Gauge:
    """One rate. ``tat_s`` is the moment at which the whole limit would be free again; a burst (``burst_s``) is one
    period's units, or one unit where the share is smaller. ``demand`` is what was asked for, granted or not.
    """

    __slots__ = ("__weakref__", "burst_s", "demand", "id", "kind", "limit", "period_s", "spacing_s", "tat_s")

    def __init__(self, id: str, kind: Kind, limit: int, period_s: float) -> None:
        self.id = id
        self.kind = kind
        self.limit = limit
        self.period_s = period_s
        self.spacing_s = period_s / limit
        self.burst_s = period_s
        self.tat_s = -math.inf
        self.demand = 0.0

    def wait_s(self, now_s: float, cost: float) -> float:
        """Seconds until ``cost`` units would be let through; zero or less when they are now."""
        tat_s = self.tat_s
        return (tat_s if tat_s > now_s else now_s) + cost * self.spacing_s - now_s - self.burst_s

    def take(self, now_s: float, cost: float) -> None:
        """Let ``cost`` units through and count them as asked for, whether or not `wait_s` allows them."""
        tat_s = self.tat_s
        self.tat_s = (tat_s if tat_s > now_s else now_s) + cost * self.spacing_s
        self.demand += cost

    def correct(self, now_s: float, difference: float) -> None:
        """What was counted turned out to be so much more, or less."""
        self.tat_s = max(now_s, self.tat_s + difference * self.spacing_s)
        self.demand += difference

    def remaining(self, now_s: float) -> int:
        """Whole units that could be taken now."""
        return max(0, int((self.burst_s - max(0.0, self.tat_s - now_s)) / self.spacing_s + 1e-9))

    def used_part(self, now_s: float) -> float:
        """Which part of the limit is used; 0 when it is all free again, as it is of a new one."""
        return max(0.0, self.tat_s - now_s) / self.burst_s

    def set_share(self, share: float, now_s: float) -> None:
        """Hold this part of the limit from now on. The units that are free stay free, up to all of the new part, and a
        larger part fills at its new rate: so shares that move to and fro let nothing through twice.
        """
        spacing_s = self.period_s / (self.limit * max(share, SHARE_MIN))
        if spacing_s == self.spacing_s:
            return
        free = (self.burst_s - max(0.0, self.tat_s - now_s)) / self.spacing_s
        self.spacing_s = spacing_s
        self.burst_s = max(self.period_s, spacing_s)
        self.tat_s = now_s + self.burst_s - min(free * spacing_s, self.burst_s)


class Slots:
    """How many requests run at a time, and may."""

    __slots__ = ("__weakref__", "id", "limit", "most", "used")

    def __init__(self, id: str, limit: int) -> None:
        self.id = id
        self.limit = self.most = limit
        self.used = 0

    def set_share(self, share: float) -> None:
        """Hold this part of the limit, and one at least."""
        self.most = max(1, round(self.limit * share))


class EndpointLimits(msgspec.Struct, frozen=True):
    """What one endpoint is asked for at most. Tokens are counted when an attempt's usage is known."""

    requests: Gauge | None = None
    tokens: tuple[Gauge, ...] = ()
    slots: Slots | None = None


class Pass(msgspec.Struct):
    """One request that was let in: what it counted, to be corrected and given back when it ends. ``headers`` say how
    its limits stand, ``notes`` what was done to it for want of money.
    """

    limits: LimitSet
    estimate: float
    headers: bytes
    notes: list[str] = []
    is_closed: bool = False

    def join(self, trace: Trace) -> None:
        """It is this trace's request: closed when the trace is finished, and paid from the caller's purse."""
        trace.ticket = self
        trace.purse = self.limits.purse

    def task_ended(self, task: asyncio.Task[None]) -> None:
        """The request's task ended; one that was cancelled before its first step has finished no trace."""
        if task.cancelled():
            self.close()

    def close(self, trace: Trace | None = None) -> None:
        """The request is over. Takes effect once."""
        if not self.is_closed:
            self.is_closed = True
            if not self.limits.is_plain:
                self.limits.give_back(self.estimate, trace)


class LimitSet:
    """The limits, and the purse, of one caller at one app or route."""

    __slots__ = (
        "_monotonic_s", "_only", "_requests", "_shown", "_shown_tokens", "_slots", "_tokens", "downgrade", "is_plain",
        "purse",
    )  # fmt: skip

    def __init__(
        self,
        gauges: Sequence[Gauge],
        slots: Sequence[Slots],
        monotonic_s: Callable[[], float],
        purse: Purse | None = None,
        downgrade: tuple[int, str] | None = None,
    ) -> None:
        self._requests = tuple([gauge for gauge in gauges if gauge.kind == "requests"])
        self._tokens = tuple([gauge for gauge in gauges if gauge.kind != "requests"])
        self._slots = tuple(slots)
        self._monotonic_s = monotonic_s
        self.is_plain = not self._tokens and not self._slots  # nothing to do when a request ends
        self._only = self._requests[0] if self.is_plain and len(self._requests) == 1 else None
        self._shown = self._requests[0] if self._requests else None  # owners come from the widest to the narrowest
        self._shown_tokens = self._tokens[0] if self._tokens else None
        self.purse = purse
        self.downgrade = downgrade

    def admit(self, body_bytes: int) -> Pass:
        """Let a request in. Raises `RateExceeded`, `ConcurrencyExceeded`; then nothing was counted."""
        if self.is_plain and not self._requests:
            return Pass(self, 0.0, b"")
        now_s = self._monotonic_s()
        only = self._only
        if only is not None:  # the usual case, the steps below in one
            tat_s, spacing_s, burst_s = only.tat_s, only.spacing_s, only.burst_s
            left_s = (tat_s - now_s if tat_s > now_s else 0.0) + spacing_s
            if left_s <= burst_s + 1e-9:
                only.tat_s = now_s + left_s
                only.demand += 1.0
                remaining = int((burst_s - left_s) / spacing_s + 1e-9)
                return Pass(self, 0.0, _SHOWN % (only.limit, remaining, left_s))
        for gauge in self._requests:
            if (wait_s := gauge.wait_s(now_s, 1.0)) > 1e-9:
                raise self._exceeded(gauge, wait_s, now_s, 1.0)
        estimate = 0.0
        if self._tokens:
            estimate = body_bytes * ESTIMATED_TOKENS_PER_BYTE
            for gauge in self._tokens:
                # The largest fits an unused limit, and an unused share of it.
                cost = min(self._estimate_of(gauge, estimate), gauge.burst_s / gauge.spacing_s)
                if (wait_s := gauge.wait_s(now_s, cost)) > 1e-9:
                    raise self._exceeded(gauge, wait_s, now_s, cost)
        for slots in self._slots:
            if slots.used >= slots.most:
                raise ConcurrencyExceeded(f"{slots.id}: {slots.most} requests are under way", retry_after_s=1)
        for slots in self._slots:
            slots.used += 1
        for gauge in self._requests:
            gauge.take(now_s, 1.0)
        for gauge in self._tokens:
            gauge.take(now_s, self._estimate_of(gauge, estimate))
        return Pass(self, estimate, self._headers(now_s) if self._requests or self._tokens else b"")

    @staticmethod
    def _estimate_of(gauge: Gauge, input_tokens: float) -> float:
        return 1.0 if gauge.kind == "output_tokens" else input_tokens

    def give_back(self, estimate: float, trace: Trace | None) -> None:
        """A request of `admit` is over."""
        for slots in self._slots:
            slots.used -= 1
        if not self._tokens or trace is None:
            return
        now_s = self._monotonic_s()
        given = made = 0
        for usage in trace.usage:
            given += usage.input_tokens
            made += usage.output_tokens
        for gauge in self._tokens:
            actual = given + made if gauge.kind == "tokens" else (given if gauge.kind == "input_tokens" else made)
            gauge.correct(now_s, actual - self._estimate_of(gauge, estimate))

    def _exceeded(self, gauge: Gauge, wait_s: float, now_s: float, cost: float) -> RateExceeded:
        gauge.demand += cost  # so that the share of a process that refuses grows
        noun = gauge.kind.replace("_", " ")
        error = RateExceeded(
            f"{gauge.id}: {gauge.limit} {noun} per {gauge.period_s:g} s are used up", retry_after_s=math.ceil(wait_s)
        )
        error.headers = self._headers(now_s)
        return error

    def _headers(self, now_s: float) -> bytes:
        lines = b""
        for name, gauge in ((b"requests", self._shown), (b"tokens", self._shown_tokens)):
            if gauge is not None:
                left_s = gauge.tat_s - now_s
                lines += (
                    b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\nx-ratelimit-reset-%b: %.3fs\r\n"
                    % (name, gauge.limit, name, gauge.remaining(now_s), name, left_s if left_s > 0 else 0.0)
                )
        return lines


def divide(demands: Mapping[str, Mapping[str, float]], holder: str, limit_id: str, processes: int = 1) -> float:
    """The share of a limit that ``holder`` takes, of what each process was asked for lately. The shares of all are one.

    Whoever was asked for nothing keeps a tenth of an even share, so that its first requests are not refused. Of the
    ``processes`` that there are to be, some may not have been heard of yet.
    """
    count = max(processes, len(demands))
    total = sum(demand.get(limit_id, 0.0) for demand in demands.values())
    own = demands.get(holder, {}).get(limit_id, 0.0)
    if total <= 0:
        return 1.0 / count
    return 0.1 / count + 0.9 * (own / total)
