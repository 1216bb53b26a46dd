"""When a caller who waits is told so."""

import asyncio
from typing import Any, cast

import pytest

from roadbed.gateway.manifest import ModelConfig
from roadbed.gateway.policy import HEARTBEAT_S, HEARTBEAT_S_MIN, Policy
from roadbed.gateway.prices import shipped_prices
from roadbed.gateway.route import build_routes
from roadbed.server.heartbeat import Heartbeat
from roadbed.server.reply import Reply


class Listener:
    """Stands for a reply: counts what it is told."""

    def __init__(self, *, is_streamed: bool = True) -> None:
        self.is_streamed = is_streamed
        self.is_telling = False
        self.heard: list[tuple[str, ...]] = []
        self.has_heard = asyncio.Event()

    def heartbeat(self, dropped: tuple[str, ...]) -> None:
        """Note it."""
        self.heard.append(dropped)
        self.has_heard.set()


def beating(listener: Listener, policy: Policy, *begun: bool) -> Heartbeat:
    answers = iter(begun)
    return Heartbeat(cast(Reply, listener), policy, lambda: ("seed",), lambda: next(answers, True))


async def test_it_beats_again_and_again_until_the_answer_is_told() -> None:
    listener = Listener()
    async with beating(listener, Policy(heartbeat_s=0.001, is_heard_early=True), False):
        for _ in range(3):
            listener.has_heard.clear()
            await asyncio.wait_for(listener.has_heard.wait(), 60)
        listener.is_telling = True
        count = len(listener.heard)
        await asyncio.sleep(0.02)
        assert len(listener.heard) == count
    assert set(listener.heard) == {("seed",)}


async def test_an_answer_that_nobody_began_is_not_committed_to() -> None:
    listener, looked = Listener(), 0

    def is_begun() -> bool:
        nonlocal looked
        looked += 1
        assert not listener.heard
        return looked > 3

    async with Heartbeat(cast(Reply, listener), Policy(heartbeat_s=0.001), tuple, is_begun):
        await asyncio.wait_for(listener.has_heard.wait(), 60)
    assert looked > 3


@pytest.mark.parametrize(
    ("listener", "every_s"), [(Listener(is_streamed=False), 0.001), (Listener(), 0.0)], ids=["whole", "off"]
)
async def test_who_does_not_stream_or_want_it_hears_nothing(listener: Listener, every_s: float) -> None:
    async with beating(listener, Policy(heartbeat_s=every_s, is_heard_early=True)):
        await asyncio.sleep(0.02)
    assert not listener.heard


async def test_nothing_is_heard_after_the_end() -> None:
    listener = Listener()
    async with beating(listener, Policy(heartbeat_s=0.001, is_heard_early=True)):
        pass
    await asyncio.sleep(0.02)
    assert not listener.heard


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (0.0, False)),
        ({"on_cut": "restart"}, (HEARTBEAT_S, False)),
        ({"on_cut": "restart", "heartbeat": "3s"}, (3.0, True)),
        ({"heartbeat": "5s"}, (5.0, True)),
        ({"heartbeat": "1ms"}, (HEARTBEAT_S_MIN, True)),
        ({"on_cut": "restart", "heartbeat": "0s"}, (0.0, True)),
    ],
)
def test_what_a_route_says(settings: dict[str, Any], expected: tuple[float, bool]) -> None:
    route = build_routes({}, {"r": ModelConfig(["openai/gpt-5"], **settings)}, prices=shipped_prices())["r"]
    assert (route.policy.heartbeat_s, route.policy.is_heard_early) == expected
