"""Faults of networks, names and clocks in front of a real model server on loopback: what the caller is told of each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from roadbed.gateway.answer_stream import AnswerStream
from roadbed.gateway.errors import StreamCut
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.route import Route
from roadbed.gateway.types import Call, Event, Finished, TextDelta
from roadbed.guard.gate import Guard
from roadbed.kernel.deadline import Deadline
from roadbed.testing.flaky_endpoint import CutBy, FlakyEndpoint
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import Reply, failing
from roadbed.wire.client import UpstreamClient
from roadbed.wire.resolver import Resolver

from .conftest import CALLER, MakeGateway, MovableClock, ask, call, endpoint

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
FINE = Rule("", Reply(text="All is well."))


def port_of(model: ScriptedModel) -> int:
    return int(model.root.rpartition(":")[2])


async def read(stream: AnswerStream, events: list[Event]) -> None:
    """Keep what comes until it breaks."""
    async for event in stream:
        events.append(event)


@pytest.mark.parametrize("cut_by", ["reset", "close"])
async def test_a_connection_that_ends_inside_an_answer_never_looks_like_its_end(
    gateway_of: MakeGateway, first: ScriptedModel, cut_by: CutBy
) -> None:
    first.script(Rule("", Reply(text=LONG)))
    async with FlakyEndpoint(port_of(first), cut_after_bytes=1500, cut_by=cut_by) as flaky:
        gateway = gateway_of(endpoint("a", f"{flaky.root}/v1"))
        events: list[Event] = []
        async with gateway.stream("smart", ask(), call()) as stream:
            with pytest.raises(StreamCut):
                await read(stream, events)
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert LONG.startswith(said)
    assert said
    assert not any(isinstance(event, Finished) for event in events)
    assert not stream.outcome.is_complete


async def test_an_answer_that_comes_byte_by_byte_is_whole(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    first.script(Rule("", Reply(text=LONG)))
    async with FlakyEndpoint(port_of(first), fault="drip") as flaky:
        answer, outcome = await gateway_of(endpoint("a", f"{flaky.root}/v1")).complete("smart", ask(), call(30.0))
    assert answer.text == LONG
    assert outcome.is_complete


async def test_a_name_without_an_address_is_failed_over_and_nothing_was_sent(
    guard: Guard, second: ScriptedModel
) -> None:
    second.script(FINE)

    async def nowhere(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    client = UpstreamClient(resolver=Resolver(nowhere))
    ladder = (endpoint("a", "http://models.invalid/v1"), endpoint("b", second.url))
    gateway = Gateway(client, guard, {"smart": Route("smart", ladder)})
    answer, outcome = await gateway.complete("smart", ask(), call())
    await client.close()
    assert answer.text == "All is well."
    assert [(record.endpoint, record.failure) for record in outcome.attempts] == [("a", "fault"), ("b", "")]
    assert not outcome.attempts[0].cost_picousd


async def test_an_endpoint_that_flaps_is_left_alone_and_comes_back(
    client: UpstreamClient, gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, clock: MovableClock
) -> None:
    """Up and down three times: no caller sees it, and while it is down few requests go there."""
    first.script(FINE)
    second.script(FINE)
    async with FlakyEndpoint(port_of(first)) as flaky:
        gateway = gateway_of(endpoint("a", f"{flaky.root}/v1"), endpoint("b", second.url), clock=clock)
        for _ in range(3):
            flaky.fault = "reset"
            await client.close()  # what flaps is a new connection
            before = flaky.connections
            for _ in range(20):
                answer, outcome = await gateway.complete("smart", ask(), Call(CALLER, Deadline.after(10.0)))
                assert (answer.text, outcome.endpoint, outcome.rung) == ("All is well.", "b", "fallback")
            assert flaky.connections - before <= 12, "the breaker opened"
            flaky.fault = "none"
            clock.now_s += 120.0  # the rest is over
            await gateway.complete("smart", ask(), call())
            clock.now_s += 120.0  # and so is the slow start
            _, outcome = await gateway.complete("smart", ask(), call())
            assert outcome.endpoint == "a"


async def test_a_brownout_of_a_tenth_reaches_no_caller(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    asked = 0

    def sometimes(prompt: object) -> Reply:
        nonlocal asked
        asked += 1
        return failing(503) if asked % 10 == 0 else Reply(text="All is well.")

    first.script(Rule("", sometimes))
    second.script(FINE)
    gateway = gateway_of(endpoint("a", first.url), endpoint("b", second.url))
    for _ in range(60):
        answer, _ = await gateway.complete("smart", ask(), call())
        assert answer.text == "All is well."
    assert len(first.chats) + len(second.chats) <= 1.2 * 60


class JumpingClock(MovableClock):
    """A machine whose time of day is set anew between any two looks; its monotonic time goes on."""

    def __init__(self) -> None:
        super().__init__()
        self._looks = 0

    def wall(self) -> datetime:
        self._looks += 1
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=(-400 if self._looks % 2 else 400))


async def test_a_clock_that_jumps_changes_no_deadline_and_no_rest(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    clock = JumpingClock()
    first.script(Rule("", failing(503)))
    second.script(FINE)
    gateway = gateway_of(endpoint("a", first.url), endpoint("b", second.url), clock=clock)
    for _ in range(8):
        deadline = Deadline.after(10.0, clock)
        clock.wall()
        answer, _ = await gateway.complete("smart", ask(), Call(CALLER, deadline))
        assert answer.text == "All is well."
        assert deadline.remaining_s() == 10.0
    asked = len(first.chats)
    clock.wall()
    await gateway.complete("smart", ask(), Call(CALLER, Deadline.after(10.0, clock)))
    assert len(first.chats) == asked, "it still rests"
