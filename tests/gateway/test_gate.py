"""Admission over real HTTP: queues let in, refuse and give up honestly, and no place is ever lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import pytest

from roadbed.gateway.errors import (
    EndpointsFailed,
    EndpointsOverloaded,
    RouteOverloaded,
    StreamCut,
    TeamQueueFull,
    UpstreamError,
)
from roadbed.gateway.gate import LAG_S_MAX
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.limiter import Limit
from roadbed.gateway.policy import Policy
from roadbed.gateway.types import Answer
from roadbed.ledger.trace import OK, REFUSED, Trace
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import Reply, failing, throttled

from .conftest import MakeGateway, ask, call, endpoint

MINUTES = itertools.count(60, 60)


def queueing(gateway_of: MakeGateway, model: ScriptedModel, length: int = 4) -> Gateway:
    return gateway_of(endpoint("a", model.url, max_connections=1), policy=Policy(queue=length))


async def answered(gateway: Gateway, seconds: float = 10.0) -> Answer:
    async with gateway.stream("smart", ask(), call(seconds)) as stream:
        return await stream.answer()


def out(gateway: Gateway) -> int:
    return gateway.gates.of(gateway.find("smart")).queue.out


async def test_who_finds_the_route_full_waits_and_is_served(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    gateway = queueing(gateway_of, first)
    answers = await asyncio.gather(*(answered(gateway) for _ in range(4)))
    assert {answer.text for answer in answers} == {"You said: Say something"}
    assert out(gateway) == 0
    assert first.connections == 1, "one at a time"


async def test_the_wait_for_a_place_is_a_step_of_the_trace(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    gateway = queueing(gateway_of, first, length=1)

    async def traced() -> Trace:
        asking = call(10.0)
        asking.trace = trace = Trace("smart", asking.principal)
        with contextlib.suppress(TeamQueueFull):
            async with gateway.stream("smart", ask(), asking) as stream:
                await stream.answer()
        return trace

    traces = await asyncio.gather(*(traced() for _ in range(3)))
    waits = [span for trace in traces for span in trace.spans if span.kind == "queue"]
    assert sorted(span.status for span in waits) == [OK, OK, REFUSED]
    assert {span.attributes["route"] for span in waits} == {"smart"}
    at_once, waited = sorted(span.duration_us for span in waits if span.status == OK)
    assert at_once < waited


async def test_the_queue_is_bounded_and_says_when_to_come_again(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    first.script(Rule("", Reply(hang=True)))
    gateway = queueing(gateway_of, first, length=1)
    tasks = [asyncio.create_task(answered(gateway)) for _ in range(2)]
    await first.wait_for_request()
    with pytest.raises(TeamQueueFull) as raised:
        await answered(gateway)
    assert raised.value.http_status == 429
    assert gateway.gates.shed_counts.counts == {("smart", "team_full"): 1}
    assert raised.value.retry_after_s is not None
    for task, left in zip(reversed(tasks), (1, 0), strict=True):
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (out(gateway), gateway.gates.of(gateway.find("smart")).queue.waiting) == (left, 0)
    assert (out(gateway), gateway.gates.of(gateway.find("smart")).queue.waiting) == (0, 0)


async def test_what_cannot_begin_in_time_is_refused_at_once(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    first.script(Rule("", Reply(hang=True)))
    gateway = queueing(gateway_of, first)
    gateway.gates.of(gateway.find("smart")).queue.service_s = 30.0
    task = asyncio.create_task(answered(gateway))
    await first.wait_for_request()
    with pytest.raises(RouteOverloaded, match="too late") as raised:
        await answered(gateway)
    assert (raised.value.http_status, raised.value.retry_after_s) == (503, 30.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_who_waits_too_long_is_given_up(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    first.script(Rule("", Reply(hang=True)))
    gateway = queueing(gateway_of, first)
    task = asyncio.create_task(answered(gateway))
    await first.wait_for_request()
    with pytest.raises(RouteOverloaded, match="given up"):
        await answered(gateway, 0.4)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert out(gateway) == 0


@pytest.mark.parametrize(
    "reply", [failing(500), Reply(text="one two three", cut_after=2), Reply(text="one")], ids=["fails", "cut", "whole"]
)
async def test_a_place_is_given_back_however_an_answer_ends(
    gateway_of: MakeGateway, first: ScriptedModel, reply: Reply
) -> None:
    first.script(Rule("", reply))
    gateway = queueing(gateway_of, first)
    await asyncio.gather(*(answered(gateway) for _ in range(3)), return_exceptions=True)
    stream = gateway.stream("smart", ask(), call())  # as one who forgets to leave the context
    with contextlib.suppress(EndpointsFailed, EndpointsOverloaded, StreamCut):
        await stream.answer()
    assert out(gateway) == 0


async def test_limits_follow_what_endpoints_say(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", throttled(30.0)))
    cloud = endpoint("cloud", first.url, is_local=False)
    gateway = gateway_of(cloud, endpoint("own", second.url), policy=Policy(queue=4))
    await answered(gateway)
    limits = gateway.gates.limits
    assert limits.of(cloud).value < Limit().value
    own = gateway.find("smart").ladder[1]
    assert limits.of(own).base_s is not None
    assert limits.capacity((cloud, own)) == 11 + 16


async def test_an_endpoint_at_its_learned_limit_is_passed_over(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", Reply(hang=True)))
    gateway = gateway_of(endpoint("a", first.url), endpoint("b", second.url), policy=Policy(queue=4))
    ladder = gateway.find("smart").ladder
    while gateway.gates.limits.of(ladder[0]).slots > 1:
        gateway.gates.limits.failed(ladder[0], UpstreamError("rate", "scripted"), float(next(MINUTES)))
    task = asyncio.create_task(answered(gateway))
    await first.wait_for_request()
    async with gateway.stream("smart", ask(), call()) as stream:
        await stream.answer()
    assert (stream.outcome.endpoint, stream.outcome.skipped) == ("b", ["a: all of its 1 learned slots are taken"])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_batch_work_is_refused_while_the_loop_is_behind(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    gateway = gateway_of(endpoint("a", first.url), policy=Policy(is_batch=True))
    assert (await answered(gateway)).text
    gateway.gates.lag.seconds = 2 * LAG_S_MAX
    with pytest.raises(RouteOverloaded, match="work that can wait") as raised:
        await answered(gateway)
    assert raised.value.retry_after_s
    interactive = gateway_of(endpoint("a", first.url), policy=Policy(queue=1))
    interactive.gates.lag.seconds = 2 * LAG_S_MAX
    assert (await answered(interactive)).text


async def test_a_route_that_fails_says_so_and_not_that_it_is_full(
    gateway_of: MakeGateway, first: ScriptedModel
) -> None:
    first.script(Rule("", failing(500)))
    with pytest.raises(EndpointsFailed):
        await answered(queueing(gateway_of, first))
