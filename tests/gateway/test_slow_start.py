"""Who comes back takes a growing share, after a breaker closed or an ejection; one probe at a time asks first."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import pytest

from roadbed.gateway.ejection import SWEEP_S
from roadbed.gateway.errors import UpstreamError
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.health import HealthBoard
from roadbed.gateway.orders import EndpointOrder, obey
from roadbed.gateway.route import Route
from roadbed.gateway.ways import Ways
from roadbed.guard.gate import Guard
from roadbed.kernel.breaker import DEFAULT_SETTINGS
from roadbed.kernel.label import PUBLIC
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import Reply, failing
from roadbed.wire.client import UpstreamClient

from .conftest import MakeGateway, MovableClock, ask, call, endpoint

STEPS = (*DEFAULT_SETTINGS.recovery, 1.0)
ASKED = 2000
ON_THE_WIRE = 50
TOGETHER = 100
Return = Callable[[HealthBoard, MovableClock], None]


def after_a_probe(board: HealthBoard, clock: MovableClock) -> None:
    """Break the circuit of ``a`` and close it with a good probe."""
    for _ in range(DEFAULT_SETTINGS.failures_in_a_row_max):
        admission = board.admit("a", has_alternative=True)
        assert admission is not None
        admission.failed(UpstreamError("fault", "scripted"))
    assert board.admit("a", has_alternative=True) is None
    clock.now_s += 2 * DEFAULT_SETTINGS.open_s
    probe = board.admit("a", has_alternative=True)
    assert probe is not None
    probe.succeeded(0.1)


def after_an_ejection(board: HealthBoard, clock: MovableClock) -> None:
    """Let ``a`` fail more than its peers until it rests, and its rest be over."""
    while not board.of("a").why_unavailable(clock.now_s):
        for number in range(20):
            for name in "abc":
                admission = board.admit(name, has_alternative=True)
                if admission is not None and name == "a" and number % 4 == 0:
                    admission.failed(UpstreamError("fault", "scripted"))
                elif admission is not None:
                    admission.succeeded(0.1)
        clock.now_s += SWEEP_S
    assert board.of("a").breaker.phase == "closed"
    clock.now_s = board.of("a").resting_until_s
    assert not board.of("a").why_unavailable(clock.now_s)


def share(board: HealthBoard, *, has_alternative: bool = True) -> float:
    """Which part of many requests ``a`` takes now."""
    taken = 0
    for _ in range(ASKED):
        admission = board.admit("a", has_alternative=has_alternative)
        if admission is not None:
            taken += 1
            admission.told_nothing()
    return taken / ASKED


@pytest.mark.parametrize("come_back", [after_a_probe, after_an_ejection])
def test_who_comes_back_takes_a_growing_share_and_all_of_it_where_there_is_nobody_else(
    clock: MovableClock, come_back: Return
) -> None:
    board = HealthBoard(clock.monotonic_s, random.Random(3).random, groups=(("a", "b", "c"),))
    come_back(board, clock)
    for expected in STEPS:
        assert share(board) == pytest.approx(expected, abs=0.05)
        assert share(board, has_alternative=False) == 1.0
        clock.now_s += DEFAULT_SETTINGS.recovery_step_s


def test_an_order_to_close_ends_the_slow_return_of_an_ejected_endpoint(clock: MovableClock) -> None:
    board = HealthBoard(clock.monotonic_s, random.Random(3).random, groups=(("a", "b", "c"),))
    after_an_ejection(board, clock)
    obey(board, EndpointOrder("a", "close"))
    assert share(board) == 1.0


@pytest.mark.parametrize("come_back", [after_a_probe, after_an_ejection])
async def test_a_route_sends_who_comes_back_a_growing_part_and_the_rest_to_the_next(
    client: UpstreamClient,
    guard: Guard,
    clock: MovableClock,
    first: ScriptedModel,
    second: ScriptedModel,
    come_back: Return,
) -> None:
    for model in (first, second):
        model.script(Rule("", Reply(text="All is well.")))
    ladder = (endpoint("a", first.url), endpoint("b", second.url), endpoint("c", second.url))
    route = Route("smart", ladder, 60.0)
    gateway = Gateway(client, guard, {"smart": route}, chance=random.Random(3).random, clock=clock)
    board = gateway._health
    come_back(board, clock)
    ways = Ways(board, client)
    for expected in STEPS:
        answered: Counter[str] = Counter()
        for _ in range(ON_THE_WIRE):
            _, outcome = await gateway.complete("smart", ask(), call())
            answered[outcome.endpoint] += 1
        assert answered["a"] / ON_THE_WIRE == pytest.approx(expected, abs=0.12)
        assert answered["a"] + answered["b"] == ON_THE_WIRE
        is_short_way = ways.first(route, PUBLIC) is not None
        assert is_short_way == (expected == 1.0), "the short way is only for who is back whole"
        clock.now_s += DEFAULT_SETTINGS.recovery_step_s


async def test_of_a_hundred_requests_at_once_exactly_one_is_the_probe(
    gateway_of: MakeGateway,
    clock: MovableClock,
    first: ScriptedModel,
    second: ScriptedModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The loop of the test makes and takes a hundred connections at once: on a busy machine that is a second's work.
    monkeypatch.setattr("roadbed.gateway.attempt.CONNECT_S_MAX", 60.0)
    first.script(Rule("", failing()))
    second.script(Rule("", Reply(text="All is well.")))
    gateway = gateway_of(endpoint("a", first.url), endpoint("b", second.url, max_connections=TOGETHER), clock=clock)
    while gateway.health_of("a").breaker.phase == "closed":
        await gateway.complete("smart", ask(), call())

    async def probes() -> int:
        """How often ``a`` is asked by so many at once, all of whom are answered."""
        before = len(first.chats)
        answers = await asyncio.gather(*(gateway.complete("smart", ask(), call()) for _ in range(TOGETHER)))
        assert len(answers) == TOGETHER
        return len(first.chats) - before

    for openings in range(3):
        assert await probes() == 0, "while it is open"
        clock.now_s += 1.3 * DEFAULT_SETTINGS.open_s * 2**openings
        first.script(Rule("", failing() if openings < 2 else Reply(text="Back.", first_delay_s=0.1)))
        assert await probes() == 1, "one in each interval"
    assert gateway.health_of("a").breaker.phase == "recovering"
