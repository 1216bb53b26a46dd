"""Fixtures of the gateway's tests: a real guard, a real client, scripted models over real HTTP, a clock that tests
move.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from roadbed.gateway.endpoints import Endpoint, sink_of
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.policy import PLAIN, Policy
from roadbed.gateway.route import Route
from roadbed.gateway.types import Call, ChatRequest, Message
from roadbed.guard.gate import Guard
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.principal import Principal
from roadbed.testing.scripted_model import ScriptedModel
from roadbed.wire.client import UpstreamClient

CALLER = Principal(id="key-1", team="support")


class MovableClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    made = UpstreamClient()
    yield made
    await made.close()


@pytest.fixture
async def first() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as model:
        yield model


@pytest.fixture
async def second() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as model:
        yield model


def endpoint(name: str, url: str, *, is_local: bool = True, labels: tuple[str, ...] = (), **values: Any) -> Endpoint:
    """An endpoint with short limits."""
    fields: dict[str, Any] = {"model": f"{name}-model", "first_event_s": 5.0, "stall_s": 5.0} | values
    return Endpoint(name=name, url=url, is_local=is_local, sink=sink_of(name, is_local, list(labels)), **fields)


def ask(text: str = "Say something", **values: Any) -> ChatRequest:
    """A request of one user turn."""
    return ChatRequest(messages=(Message("user", text),), **values)


def call(seconds: float = 10.0, **values: Any) -> Call:
    """A call with a deadline."""
    return Call(CALLER, Deadline.after(seconds), **values)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


MakeGateway = Callable[..., Gateway]


@pytest.fixture
def gateway_of(client: UpstreamClient, guard: Guard) -> MakeGateway:
    """A gateway with one route ``smart`` over the given endpoints. Chance is fixed, so that nothing is random."""

    def make(
        *endpoints: Endpoint, chance: float = 0.0, deadline_s: float = 60.0, policy: Policy = PLAIN, **values: Any
    ) -> Gateway:
        route = Route("smart", endpoints, deadline_s, policy=policy)
        return Gateway(client, guard, {"smart": route}, chance=lambda: chance, **values)

    return make
