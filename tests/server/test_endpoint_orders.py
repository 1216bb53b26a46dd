"""Orders to endpoints, as the owner keeps them and every process carries them out."""

from __future__ import annotations

from roadbed.gateway.orders import EndpointOrder, OrderName
from roadbed.server.endpoint_orders import ORDERS_MAX, EndpointOrders


def test_orders_are_numbered_bounded_and_obeyed_once() -> None:
    orders, obeyed = EndpointOrders(), EndpointOrders()
    done: list[tuple[str, OrderName]] = []

    def note(order: EndpointOrder) -> None:
        done.append((order.endpoint, order.name))

    names: tuple[OrderName, ...] = ("drain", "open", "resume")
    for name in names:
        orders.add(EndpointOrder("a", name))
    obeyed.obey(orders.all(), note, is_first=False)
    obeyed.obey(orders.all(), note, is_first=False)
    assert done == [("a", "open"), ("a", "resume")]
    late = EndpointOrders()
    done.clear()
    late.obey(orders.all(), note, is_first=True)
    assert done == [("a", "resume")], "what did not last is past"
    for number in range(ORDERS_MAX + 10):
        orders.add(EndpointOrder(str(number), "drain"))
    assert len(orders.all()) == ORDERS_MAX
