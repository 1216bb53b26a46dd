"""Answers under way end when their caller's access does: in the dialect's own words, with the endpoint let go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from roadbed.guard.gate import Guard
from roadbed.guard.identity import Identity
from roadbed.kernel.principal import Principal
from roadbed.server.http import CHAT_PATH, MESSAGES_PATH, RESPONSES_PATH
from roadbed.server.running import AccessEnded, RunningCalls
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import Reply

from .mcp_serving import PATIENCE_S, mcp_serving
from .test_chat_hot import WORDS, Site, chat, endpoint, site_of

ENDS = {CHAT_PATH: b"[DONE]", RESPONSES_PATH: b"response.completed", MESSAGES_PATH: b"message_stop"}
BODIES: dict[str, dict[str, Any]] = {
    CHAT_PATH: chat(stream=True),
    RESPONSES_PATH: {"model": "fast", "input": "Say something", "stream": True},
    MESSAGES_PATH: chat(stream=True, max_tokens=100),
}


class Door:
    """What `RunningCalls` asks of an identity; the key is live until the test ends it."""

    def __init__(self) -> None:
        self.live = True
        self.changed: Callable[[], None] = lambda: None

    def on_change(self, callback: Callable[[], None]) -> None:
        self.changed = callback

    def is_live(self, principal_id: str) -> bool:
        return self.live

    def close(self) -> None:
        self.live = False
        self.changed()


@pytest.fixture
async def site(guard: Guard) -> AsyncIterator[Site]:
    async with site_of(guard) as made:
        yield made


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel(default=Reply(text=WORDS)) as made:
        yield made


@pytest.fixture
async def door(site: Site) -> AsyncIterator[Door]:
    made = Door()
    running = RunningCalls()
    running.watch(cast(Identity, made))
    for handler in (site.chat, *site.answers):
        handler.running = running
    yield made
    assert not running._calls
    running.close()


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("is_short", [True, False])
async def test_a_stream_ends_with_the_dialects_error(
    site: Site, model: ScriptedModel, door: Door, path: str, is_short: bool
) -> None:
    site.gateway.is_short = is_short
    site.serve(endpoint("first", model.url))
    model.script(Rule(".", Reply(text=WORDS, stall_after=3)))
    reader = await site.open(json.dumps(BODIES[path]).encode(), path=path)
    asked = await model.wait_for_request()
    async with asyncio.timeout(PATIENCE_S):
        head = await reader.readuntil(b"One")
        door.close()
        rest = await reader.read()
        await asked.closed.wait()
        await site.ledger.arrived.wait()
    assert b" 200 OK" in head
    assert AccessEnded.code.encode() in rest or b"authentication_error" in rest
    assert ENDS[path] not in rest
    assert rest.endswith(b"0\r\n\r\n")
    (trace,) = site.ledger.traces
    assert (trace.status, trace.error_code, trace.rung) == ("refused", AccessEnded.code, "refused")
    assert trace.usage[0].output_tokens > 0
    health = site.gateway.health_of("first")
    assert (health.in_flight, health.failures) == (0, 0)


@pytest.mark.parametrize("is_short", [True, False])
@pytest.mark.parametrize("is_stream", [True, False])
async def test_before_the_first_text_it_is_a_plain_refusal(
    site: Site, model: ScriptedModel, door: Door, is_short: bool, is_stream: bool
) -> None:
    site.gateway.is_short = is_short
    site.serve(endpoint("first", model.url))
    model.script(Rule(".", Reply(hang=True)))
    asking = asyncio.create_task(site.ask(chat(stream=is_stream)))
    asked = await model.wait_for_request()
    door.close()
    answered = await asking
    async with asyncio.timeout(PATIENCE_S):
        await asked.closed.wait()
    assert (answered.status, answered.json["error"]["code"]) == (401, AccessEnded.code)


async def test_others_and_later_answers_go_on(site: Site, model: ScriptedModel, door: Door) -> None:
    site.serve(endpoint("first", model.url))
    assert (await site.ask(chat(stream=True))).text == WORDS
    door.changed()
    assert (await site.ask(chat(stream=True))).text == WORDS


async def test_an_expired_key_is_noticed_without_a_word(site: Site, model: ScriptedModel, door: Door) -> None:
    site.serve(endpoint("first", model.url))
    model.script(Rule(".", Reply(hang=True)))
    asking = asyncio.create_task(site.ask(chat(stream=True)))
    await model.wait_for_request()
    door.live = False  # nobody says so
    assert (await asking).status == 401


async def test_events_of_pages_end_where_they_wait_and_where_they_are_read() -> None:
    door, running, never = Door(), RunningCalls(), asyncio.Event()
    running.watch(cast(Identity, door))

    async def words() -> AsyncIterator[str]:
        yield "one"
        yield "two"
        await never.wait()

    who = Principal("anna", "support")
    waiting = running.while_live(who, words())
    assert [await anext(waiting), await anext(waiting)] == ["one", "two"]
    asyncio.get_running_loop().call_soon(door.close)
    with pytest.raises(AccessEnded):
        await anext(waiting)
    door.live = True
    reading = running.while_live(who, words())
    assert await anext(reading) == "one"
    door.close()
    await asyncio.sleep(0)  # the reader is not cancelled
    with pytest.raises(AccessEnded):
        await anext(reading)
    assert not running._calls
    running.close()


@pytest.mark.parametrize("in_stream", [True, False])
async def test_a_call_of_a_tool_ends_with_a_protocol_error(in_stream: bool) -> None:
    door, running = Door(), RunningCalls()
    running.watch(cast(Identity, door))
    async with mcp_serving(running=running) as server:
        params = {"name": "slow", "arguments": {}}
        meta = {"progressToken": "p"} if in_stream else {}
        asking = asyncio.create_task(server.modern("tools/call", params, meta=meta))
        async with asyncio.timeout(PATIENCE_S):
            await server.calls.begun.wait()
            door.close()
            answer = await asking
            await server.calls.ended.wait()
    assert server.calls.stops == ["cancelled"]
    assert AccessEnded.code in answer.text
    running.close()
