"""Several keys at one endpoint: they take turns, each rests by itself, the next one is tried at once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.gateway.errors import EndpointsThrottled, UpstreamError
from roadbed.gateway.key_ring import QUOTA_REST_S, REFUSED_REST_S, KeyRing
from roadbed.kernel.secrets import Secret
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import Prompt, Reply

from .conftest import MakeGateway, MovableClock, ask, call, endpoint

KEYS = (Secret("sk-a"), Secret("sk-b"), Secret("sk-c"))


def failure(kind: Any, retry_after_s: float | None = None) -> UpstreamError:
    return UpstreamError(kind, "no", retry_after_s=retry_after_s)


def test_healthy_keys_take_turns() -> None:
    ring = KeyRing(KEYS)
    assert [ring.choose(0.0) for _ in range(5)] == [0, 1, 2, 0, 1]


def test_each_rests_by_itself_and_comes_back() -> None:
    ring = KeyRing(KEYS)
    ring.failed(0, failure("auth"), 0.0)
    ring.failed(1, failure("rate", 7.0), 0.0)
    assert ring.states(1.0) == ["refused", "cooling", "ok"]
    assert [ring.choose(1.0) for _ in range(3)] == [2, 2, 2]
    ring.failed(2, failure("quota"), 0.0)
    assert ring.choose(1.0) is None
    assert ring.resting_for_s(1.0) == 6.0
    assert ring.choose(7.0) == 1
    assert ring.states(max(REFUSED_REST_S, QUOTA_REST_S)) == ["ok", "ok", "ok"]


def test_one_forbidden_request_rests_no_key() -> None:
    ring = KeyRing(KEYS)
    forbidden = UpstreamError("auth", "no", status=403)
    for number in range(len(KEYS)):
        ring.failed(number, forbidden, 0.0)
    assert ring.states(0.0) == ["ok", "ok", "ok"]
    ring.succeeded(0)
    for _ in range(2):
        ring.failed(0, forbidden, 0.0)
        ring.failed(1, forbidden, 0.0)
    assert ring.states(0.0) == ["ok", "refused", "ok"]
    assert ring.states(31.0) == ["ok", "ok", "ok"]


def test_a_ring_is_that_of_its_values() -> None:
    ring = KeyRing(KEYS)
    assert ring.holds(tuple(Secret(key.reveal()) for key in KEYS))
    assert not ring.holds(KEYS[:2])
    assert not ring.holds((KEYS[1], KEYS[0], KEYS[2]))
    assert "sk-" not in repr(ring)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["auth", "quota", "rate"]), st.floats(0, 5000)), max_size=30)
)
def test_what_rests_is_given_to_nobody(steps: list[tuple[int, str, float]]) -> None:
    ring, now_s = KeyRing(KEYS), 0.0
    for number, kind, seconds in steps:
        ring.failed(number, failure(kind, seconds), now_s)
        now_s += seconds / 3
        chosen = ring.choose(now_s)
        assert (chosen is None) == (ring.resting_for_s(now_s) > 0.0)
        assert chosen is None or ring.states(now_s)[chosen] == "ok"


def key_shown(model: ScriptedModel) -> list[str]:
    return [request.headers.get("authorization", "").removeprefix("Bearer ") for request in model.chats]


async def test_requests_use_the_keys_in_turn(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    first.script(Rule("", Reply(text="one")))
    gateway = gateway_of(endpoint("a", first.url, key=KEYS[0], keys=KEYS))
    for _ in range(4):
        await gateway.complete("smart", ask(), call())
    assert key_shown(first) == ["sk-a", "sk-b", "sk-c", "sk-a"]


@pytest.mark.parametrize("status", [401, 403, 429])
async def test_the_next_key_is_tried_where_one_is_refused_or_throttled(
    gateway_of: MakeGateway, first: ScriptedModel, clock: MovableClock, status: int
) -> None:
    first.script(Rule("", Reply(status=status, headers={"retry-after": "60"}), times=1), Rule("", Reply(text="one")))
    gateway = gateway_of(endpoint("a", first.url, key=KEYS[0], keys=KEYS), clock=clock)
    answer, outcome = await gateway.complete("smart", ask(), call())
    assert (answer.text, outcome.rung) == ("one", "full")
    assert key_shown(first) == ["sk-a", "sk-b"]
    for _ in range(3):
        await gateway.complete("smart", ask(), call())
    [row] = gateway.explain("smart")
    if status == 403:
        assert key_shown(first)[2:] == ["sk-c", "sk-a", "sk-b"], "one 403 may be the request's"
        assert row["keys"] == ["ok", "ok", "ok"]
    else:
        assert key_shown(first)[2:] == ["sk-c", "sk-b", "sk-c"], "the one that failed rests, the endpoint does not"
        assert row["keys"] == ["cooling" if status == 429 else "refused", "ok", "ok"]
    assert row["unavailable"] == ""
    assert "sk-" not in repr((outcome, row))


async def test_an_endpoint_rests_when_all_its_keys_do(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, clock: MovableClock
) -> None:
    first.script(Rule("", Reply(status=429, headers={"retry-after": "60"})))
    second.script(Rule("", Reply(text="two")))
    gateway = gateway_of(endpoint("a", first.url, key=KEYS[0], keys=KEYS), endpoint("b", second.url), clock=clock)
    for _ in range(2):
        assert (await gateway.complete("smart", ask(), call()))[0].text == "two"
    assert key_shown(first) == ["sk-a", "sk-b", "sk-c"], "each once, and then none"
    assert gateway.explain("smart")[0]["unavailable"] == "all its keys rest"
    clock.now_s += 61.0
    first.script(Rule("", Reply(text="one")))
    assert (await gateway.complete("smart", ask(), call()))[0].text == "one"


async def test_a_fault_of_the_server_is_not_a_key_s(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    def reply(prompt: Prompt) -> Reply:
        return Reply(status=503)

    first.script(Rule("", reply, times=2), Rule("", Reply(text="one")))
    gateway = gateway_of(endpoint("a", first.url, key=KEYS[0], keys=KEYS))
    with pytest.raises(Exception, match="overload"):
        await gateway.complete("smart", ask(), call())
    assert len(first.chats) == 2, "the one retry, as with one key"
    assert gateway.explain("smart")[0]["keys"] == ["ok", "ok", "ok"]


async def test_the_error_says_when_the_first_key_is_back(
    gateway_of: MakeGateway, first: ScriptedModel, clock: MovableClock
) -> None:
    waits = iter(("90", "30", "60"))
    first.script(Rule("", lambda prompt: Reply(status=429, headers={"retry-after": next(waits)})))
    gateway = gateway_of(endpoint("a", first.url, key=KEYS[0], keys=KEYS), clock=clock)
    with pytest.raises(EndpointsThrottled) as refused:
        await gateway.complete("smart", ask(), call())
    assert refused.value.retry_after_s == pytest.approx(30.0)
    assert "sk-" not in str(refused.value)
