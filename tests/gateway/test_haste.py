"""Callers in a hurry: what they time out tells nothing about an endpoint, and closes it to nobody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.gateway.errors import EndpointsTimedOut, GatewayDeadline, StreamCut, UpstreamError
from roadbed.gateway.haste import FAIR_S, FAIR_S_MAX, waited_s, was_hasty
from roadbed.kernel.errors import RoadbedError
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import Reply

from .conftest import MakeGateway, ask, call, endpoint

HASTY_S = 0.1
CALLS = 12  # more than a breaker needs to open


def timeout(waited: float | None, *, was_sent: bool = True) -> UpstreamError:
    return UpstreamError("timeout", "late", was_sent=was_sent, waited_s=waited)


@pytest.mark.parametrize(
    ("error", "usual_s", "is_hasty"),
    [
        (timeout(None), None, False),
        (timeout(0.9), None, True),
        (timeout(1.1), None, False),
        (timeout(1.1), 0.9, True),
        (timeout(0.4), 0.05, False),
        (timeout(0.2), 0.05, True),
        (timeout(2.1), 30.0, False),
        (timeout(0.2, was_sent=False), None, True),
        (timeout(0.3, was_sent=False), None, False),
        (UpstreamError("fault", "reset", waited_s=0.01), None, False),
    ],
)
def test_what_counts(error: UpstreamError, usual_s: float | None, *, is_hasty: bool) -> None:
    assert was_hasty(error, usual_s) is is_hasty


@given(st.floats(0, 100), st.floats(0, 100), st.none() | st.floats(0.001, 100), st.booleans())
def test_own_limits_and_long_waits_always_count(began: float, waited: float, usual_s: float | None, own: bool) -> None:
    found = waited_s(began, began + waited, is_own_limit=own, has_begun=False)
    if own or waited >= max(FAIR_S, FAIR_S_MAX) + 0.001:
        assert not was_hasty(timeout(found), usual_s)
    if not own:
        begun = waited_s(began, began + waited, is_own_limit=False, has_begun=True)
        assert was_hasty(timeout(begun), usual_s), "it was answering"


async def test_hasty_callers_close_an_endpoint_to_nobody(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    first.script(Rule("", Reply(text="Here it is.", first_delay_s=0.25)))
    gateway = gateway_of(endpoint("a", first.url))
    for _ in range(CALLS):
        with pytest.raises(GatewayDeadline):
            await gateway.complete("smart", ask(), call(HASTY_S))
    state = gateway.health_of("a")
    assert (state.breaker.phase, state.failures, state.failed_last) == ("closed", 0, "")
    answer, _ = await gateway.complete("smart", ask(), call())
    assert answer.text == "Here it is."


@pytest.mark.parametrize("is_whole", [True, False])
async def test_an_endpoint_that_is_answering_is_not_to_blame_for_its_caller_s_time(
    gateway_of: MakeGateway, first: ScriptedModel, *, is_whole: bool
) -> None:
    first.script(Rule("", Reply(text="w " * 100, gap_s=0.05)))
    gateway = gateway_of(endpoint("a", first.url))
    with pytest.raises(RoadbedError) as caught:
        async with gateway.stream("smart", ask(), call(1.2), is_whole=is_whole) as stream:
            await stream.answer()
    assert isinstance(caught.value, GatewayDeadline if is_whole else StreamCut)
    assert gateway.health_of("a").failures == 0


async def test_one_that_is_silent_past_its_own_limit_counts_whoever_asks(
    gateway_of: MakeGateway, first: ScriptedModel
) -> None:
    first.script(Rule("", Reply(hang=True)))
    gateway = gateway_of(endpoint("a", first.url, first_event_s=0.05))
    for _ in range(CALLS):
        with pytest.raises(RoadbedError) as caught:
            await gateway.complete("smart", ask(), call(5.0))
        assert isinstance(caught.value, EndpointsTimedOut) or gateway.health_of("a").breaker.phase == "open"
    assert gateway.health_of("a").breaker.phase == "open"
