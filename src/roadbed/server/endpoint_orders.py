"""The orders that operators gave to endpoints, as every process that serves has to carry them out.

The process that owns the deployment keeps them, numbers them and hands them to all in its `Deployment`; each process
carries out each order once. They live as long as the deployment runs. The invariant: at most one lasting order and one
order to the breaker is kept per endpoint, and at most `ORDERS_MAX` in all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from roadbed.gateway.orders import EndpointOrder
from roadbed.kernel.errors import NotFound

ORDERS_MAX = 2048


class UnknownEndpoint(NotFound):
    """No route that serves has an endpoint of this name."""

    code = "gateway.unknown_endpoint"
    hint = "`roadbed models list` names those that serve"


class EndpointOrders:
    """What was ordered last, by endpoint."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bool], EndpointOrder] = {}
        self._given = 0
        self._obeyed = 0

    def add(self, order: EndpointOrder) -> None:
        """Keep an order, with the next number."""
        self._given += 1
        key = (order.endpoint, order.lasts)
        self._kept.pop(key, None)  # so that the oldest stay first
        self._kept[key] = replace(order, number=self._given)
        if len(self._kept) > ORDERS_MAX:
            del self._kept[next(iter(self._kept))]

    def all(self) -> tuple[EndpointOrder, ...]:
        """Those that are kept, oldest first."""
        return tuple(self._kept.values())

    def obey(self, orders: Iterable[EndpointOrder], obey: Callable[[EndpointOrder], None], *, is_first: bool) -> None:
        """Carry out what was not yet; a process that just began leaves out what did not last."""
        for order in sorted(orders, key=lambda order: order.number):
            if order.number > self._obeyed:
                self._obeyed = order.number
                if order.lasts or not is_first:
                    obey(order)
