"""`Circuit`: a breaker around requests that need no connection of ours, with its clock and its last failure.

For HTTP APIs and object stores; `pool` has its own, tied to connections. The state is ``kernel/breaker``'s, decided by
pure functions. The invariant: each admitted piece of work is reported once, however it ends.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from roadbed.kernel import breaker as breakers
from roadbed.kernel.clock import SYSTEM_CLOCK, Clock
from roadbed.kernel.deadline import Deadline
from roadbed.sources.bulkhead import Bulkhead
from roadbed.sources.errors import CredentialsRefused, SourceUnavailable
from roadbed.sources.pool import BREAKER, WAITING_MAX, PoolState


class Circuit:
    """At most ``places`` requests at once to the source ``name``, none while it rests after failures."""

    def __init__(
        self,
        name: str,
        places: int,
        *,
        settings: breakers.BreakerSettings = BREAKER,
        clock: Clock = SYSTEM_CLOCK,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.breaker = breakers.CLOSED
        self._name = name
        self._bulkhead = Bulkhead(name, places, WAITING_MAX)
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._places = places
        self._last_failure = ""
        self._last_failure_at: datetime | None = None

    def state(self) -> PoolState:
        """What is known just now; asks nobody."""
        return PoolState(
            size=self._places,
            in_use=self._bulkhead.in_use,
            idle=0,
            waiting=self._bulkhead.waiting,
            phase=self.breaker.phase,
            retry_after_s=self.breaker.retry_after_s(self._clock.monotonic_s()),
            last_failure=self._last_failure,
            last_failure_at=self._last_failure_at,
        )

    @asynccontextmanager
    async def admitted(self, deadline: Deadline) -> AsyncIterator[None]:
        """A place for one request. `SourceUnavailable` raised inside counts against the source; `SourceBusy`."""
        self._refuse_while_resting()
        await self._bulkhead.enter(deadline)
        result: breakers.Result = "ignored"
        try:
            now_s = self._clock.monotonic_s()
            self.breaker, is_admitted = breakers.admit(self.breaker, now_s, self._chance(), self._settings)
            if not is_admitted:
                raise self._resting()
            try:
                yield
                result = "success"
            except SourceUnavailable as error:
                result = "failure"
                self._last_failure, self._last_failure_at = error.message, datetime.now(UTC)
                if isinstance(error, CredentialsRefused):  # repeating it locks accounts
                    for _ in range(self._settings.failures_in_a_row_max - 1):
                        self._report("failure")
                raise
            finally:
                self._report(result)
        finally:
            self._bulkhead.leave()

    def _refuse_while_resting(self) -> None:
        if not breakers.is_available(self.breaker, self._clock.monotonic_s(), self._settings):
            raise self._resting()

    def _resting(self) -> SourceUnavailable:
        after_s = self.breaker.retry_after_s(self._clock.monotonic_s())
        return SourceUnavailable(
            f"the source {self._name} failed and rests for {after_s:.1f} s: {self._last_failure}",
            hint="ask again later, or look at the system behind the source",
            retry_after_s=after_s or None,
        )

    def _report(self, result: breakers.Result) -> None:
        self.breaker = breakers.record(self.breaker, result, self._clock.monotonic_s(), self._chance(), self._settings)
