"""What an operator may tell an endpoint by hand: take no new requests, take them again, open or close its breaker.

Called by the server in every process that serves, which logs who said it. Requests under way are left alone. The
invariant: a drained endpoint is asked by nobody until it is told to resume, whatever its breaker does meanwhile.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import msgspec

from roadbed.gateway.health import EndpointHealth, HealthBoard
from roadbed.kernel import breaker as breakers

OrderName = Literal["drain", "resume", "open", "close"]
ORDER_NAMES: tuple[OrderName, ...] = get_args(OrderName)
DRAINED = "drained by hand"


class EndpointOrder(msgspec.Struct, frozen=True):
    """One order. ``number`` rises with each, so that a process carries out each once."""

    endpoint: str
    name: OrderName
    number: int = 0

    @property
    def lasts(self) -> bool:
        """Whether it also holds for processes that start later."""
        return self.name in ("drain", "resume")


def obey(board: HealthBoard, order: EndpointOrder) -> None:
    """Carry an order out."""
    state = board.of(order.endpoint)
    match order.name:
        case "drain":
            state.resting_until_s, state.resting_for = math.inf, DRAINED
        case "resume":
            if state.is_drained:
                state.resting_until_s, state.resting_for = 0.0, ""
        case "open":
            until_s = board.monotonic_s() + board.settings.open_s_max
            _set(state, breakers.Breaker(phase="open", openings=state.breaker.openings, until_s=until_s))
        case "close":
            _set(state, breakers.CLOSED)
            state.whole_from_s = 0.0
            state.unproven_until = state.requests - state.in_flight
            if not state.is_drained:
                state.resting_until_s, state.resting_for = 0.0, ""


def _set(state: EndpointHealth, breaker: breakers.Breaker) -> None:
    state.breaker = breaker
    state.successes = 0  # counted in arrears for the breaker that was
