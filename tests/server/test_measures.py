"""What ``/metrics`` says of endpoints and of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.orders import EndpointOrder
from roadbed.gateway.route import Route
from roadbed.kernel.principal import Principal
from roadbed.ledger.ledger import Ledger
from roadbed.ledger.metrics import Metrics, observe_in
from roadbed.ledger.trace import Trace
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
        gateway.hedges.count("smart", "started")
        gateway.gates.shed_counts.count("smart", "late")
        gate = gateway.gates.of(route)
        observe_in(gate.waited, 0.2)
        assert metrics.value("roadbed_hedges_total", ("smart", "started")) == 1
        assert metrics.value("roadbed_shed_total", ("smart", "late")) == 1
        assert metrics.value("roadbed_queue_depth", ("smart",)) == 0
        await asyncio.sleep(3.5 * LAG_INTERVAL_S)
        measures.close()

    run_virtual(live(), loop)
    assert 'roadbed_queue_wait_seconds_count{route="smart"} 1' in metrics.render()
    assert "roadbed_loop_lag_seconds_count 3" in metrics.render()


class OneTrace:
    """Stands where the ledger is: hands over one finished trace."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def export_to(self, export: Callable[[Trace], None]) -> None:
        export(self.trace)


async def test_a_finished_trace_goes_on() -> None:
    seen, trace = list[Trace](), Trace("helpdesk", Principal("key", "team"))
    measures = Measures(Metrics(), Gateway(cast(Any, None), cast(Any, None), {}))
    measures.count_finished(cast(Ledger, OneTrace(trace)), seen.append)
    measures.close()
    assert seen == [trace]
