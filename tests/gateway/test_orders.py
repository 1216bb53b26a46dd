"""What an operator tells an endpoint, over real HTTP, and what stays of it."""

from __future__ import annotations

import contextlib

import pytest

from roadbed.gateway.errors import EndpointsOverloaded
from roadbed.gateway.health import HealthBoard
from roadbed.gateway.orders import EndpointOrder, obey
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import Reply, failing

from .conftest import MakeGateway, MovableClock, ask, call, endpoint

FINE = Rule("", Reply(text="All is well."))


async def test_a_drained_endpoint_is_asked_by_nobody_until_it_is_told_to_resume(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(FINE)
    second.script(FINE)
    gateway = gateway_of(endpoint("a", first.url), endpoint("b", second.url))
    await gateway.complete("smart", ask(), call())
    gateway.obey(EndpointOrder("a", "drain"))
    gateway.obey(EndpointOrder("a", "close"))  # the breaker is another matter
    _, outcome = await gateway.complete("smart", ask(), call())
    assert (outcome.endpoint, outcome.skipped) == ("b", ["a: drained by hand"])
    assert gateway.endpoints()[0].is_drained
    gateway.obey(EndpointOrder("a", "resume"))
    _, outcome = await gateway.complete("smart", ask(), call())
    assert outcome.endpoint == "a"


async def test_a_route_whose_only_endpoint_is_drained_says_no_time(
    gateway_of: MakeGateway, first: ScriptedModel
) -> None:
    gateway = gateway_of(endpoint("a", first.url))
    gateway.obey(EndpointOrder("a", "drain"))
    with pytest.raises(EndpointsOverloaded) as caught:
        await gateway.complete("smart", ask(), call())
    assert caught.value.retry_after_s is None
    assert not first.requests


async def test_an_opened_breaker_rests_a_minute_and_is_then_probed(
    gateway_of: MakeGateway, first: ScriptedModel, clock: MovableClock
) -> None:
    first.script(FINE)
    gateway = gateway_of(endpoint("a", first.url), clock=clock)
    await gateway.complete("smart", ask(), call())
    gateway.obey(EndpointOrder("a", "open"))
    clock.now_s += 59.0
    with pytest.raises(EndpointsOverloaded):
        await gateway.complete("smart", ask(), call())
    assert gateway.endpoints()[0].breaker == "open"
    clock.now_s += 2.0
    await gateway.complete("smart", ask(), call())
    assert gateway.endpoints()[0].breaker == "recovering"
    gateway.obey(EndpointOrder("a", "close"))
    assert gateway.endpoints()[0].breaker == "closed"


async def test_failures_are_kept_with_class_and_reason_and_without_what_the_server_said(
    gateway_of: MakeGateway, first: ScriptedModel
) -> None:
    first.script(Rule("", failing(500, message="secret of the provider")))
    gateway = gateway_of(endpoint("a", first.url))
    for _ in range(4):
        with pytest.raises(Exception, match="smart"):
            await gateway.complete("smart", ask(), call())
    (view,) = gateway.endpoints()
    assert len(view.recent_failures) == 5, "bounded"
    assert {seen.failure for seen in view.recent_failures} == {"fault"}
    assert "secret of the provider" not in str(view)


def test_opening_forgets_successes_that_were_not_counted_yet() -> None:
    board = HealthBoard(lambda: 50.0, lambda: 0.5)
    for _ in range(2):
        admission = board.admit("a", has_alternative=False)
        assert admission is not None
        admission.succeeded(0.1)
    running = board.admit("a", has_alternative=False)
    assert running is not None
    obey(board, EndpointOrder("a", "open"))
    running.succeeded(0.1)
    assert board.of("a").breaker.phase == "open"


async def test_after_its_breaker_was_closed_by_hand_an_endpoint_is_not_known_until_it_has_told(
    gateway_of: MakeGateway, first: ScriptedModel, clock: MovableClock
) -> None:
    first.script(FINE)
    gateway = gateway_of(endpoint("a", first.url), clock=clock)
    await gateway.complete("smart", ask(), call())
    assert not gateway.endpoints()[0].is_unproven
    for last in (FINE, Rule("", failing())):
        gateway.obey(EndpointOrder("a", "open"))
        gateway.obey(EndpointOrder("a", "close"))
        assert gateway.endpoints()[0].is_unproven
        admission = gateway._health.admit("a", has_alternative=False)
        assert admission is not None
        admission.told_nothing()  # its caller left
        assert gateway.endpoints()[0].is_unproven
        first.script(last)
        with contextlib.suppress(Exception):
            await gateway.complete("smart", ask(), call())
        assert not gateway.endpoints()[0].is_unproven
    assert gateway.endpoints()[0].failed_last
