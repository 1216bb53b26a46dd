"""What ``/metrics`` says of endpoints and of the loop."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.orders import EndpointOrder
from roadbed.gateway.route import Route
from roadbed.ledger.metrics import Metrics
from roadbed.server.measures import LAG_INTERVAL_S, Measures
from roadbed.testing.virtual_time import VirtualTimeLoop, run_virtual


def test_breakers_and_the_lag_of_the_loop_are_measured() -> None:
    loop = VirtualTimeLoop()
    metrics = Metrics()

    async def live() -> None:
        route = Route("smart", (Endpoint("a", "http://a.test", "m"),))
        gateway = Gateway(cast(Any, None), cast(Any, None), {"smart": route}, clock=loop)
        measures = Measures(metrics, gateway)
        assert metrics.value("roadbed_breaker_state", ("a", "closed")) == 1
        gateway.obey(EndpointOrder("a", "open"))
        assert metrics.value("roadbed_breaker_state", ("a", "closed")) == 0
        assert metrics.value("roadbed_breaker_state", ("a", "open")) == 1
        await asyncio.sleep(3.5 * LAG_INTERVAL_S)
        measures.close()

    run_virtual(live(), loop)
    assert "roadbed_loop_lag_seconds_count 3" in metrics.render()
