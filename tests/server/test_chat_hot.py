"""The short way of chat completions beside the ordinary one, over real HTTP: alike to callers and in records."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from roadbed.apps.registry import AppRegistry
from roadbed.gateway.endpoints import Endpoint, sink_of
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.prices import price_from_usd
from roadbed.gateway.route import Route
from roadbed.guard.gate import Guard
from roadbed.guard.identity import Identity
from roadbed.guard.manifest import GuardConfig
from roadbed.guard.rules import GuardRule
from roadbed.kernel.errors import Unauthorized
from roadbed.kernel.principal import Principal
from roadbed.ledger.ledger import Ledger
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.trace import Trace
from roadbed.server.answers import CallerAnswers
from roadbed.server.chat import ChatCompletions
from roadbed.server.chat_hot import HotAnswer
from roadbed.server.http import CHAT_PATH, MESSAGES, MESSAGES_PATH, RESPONSES, RESPONSES_PATH
from roadbed.server.teams import Teams
from roadbed.store.database import Database
from roadbed.testing.flaky_endpoint import refused_port
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import Reply, ScriptedCall, failing, throttled
from roadbed.wire.client import UpstreamClient
from roadbed.wire.hot import HotTable
from roadbed.wire.server import HotServer, bind, make_server

KEY = "Bearer good"
WORDS = "One two three four five."
PATIENCE_S = 20.0


class OneKey:
    """Recognises one key."""

    keys_version = None

    def authenticate(self, presented: bytes) -> Principal:
        if presented != b"good":
            raise Unauthorized("no such key")
        return Principal(id="key-1", team="support")


class KeptLedger(Ledger):
    """A ledger whose writer never starts: finished traces are looked at here."""

    def __init__(self) -> None:
        database = cast(Database, None)
        super().__init__(database, Path("/nonexistent"), Metrics(), keep=timedelta(days=1), content="on")
        self.traces: list[Trace] = []
        self.arrived = asyncio.Event()

    def finish(self, trace: Trace, *, status: str = "ok", rung: str = "", error_code: str = "") -> None:
        super().finish(trace, status=status, rung=rung, error_code=error_code)
        self.traces.append(trace)
        self.arrived.set()


class SwitchedGateway(Gateway):
    """With ``is_short`` False no request can go the short way."""

    is_short = True

    def relay(self, *values: Any) -> Any:
        return super().relay(*values) if self.is_short else None


class CountedChat(ChatCompletions):
    """Counts the requests that went the short way."""

    relayed = 0
    ordinary = 0

    def _begin(self, turn: Any, opening: Any, found: frozenset[str]) -> None:
        before = self.ordinary
        super()._begin(turn, opening, found)
        self.relayed += self.ordinary == before

    def _go_on(self, turn: Any, first_try: Any) -> None:
        self.ordinary += first_try is None
        super()._go_on(turn, first_try)


@dataclass
class Answered:
    """An answer as a caller reads it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        pieces = [piece.removeprefix("data: ") for piece in self.body.decode().split("\n\n") if piece]
        return [piece if piece == "[DONE]" else json.loads(piece) for piece in pieces]

    @property
    def text(self) -> str:
        choices = [event["choices"][0] for event in self.events if event != "[DONE]" and event.get("choices")]
        return "".join(choice["delta"].get("content") or "" for choice in choices)


@dataclass
class Site:
    """A listening server with one route ``fast``."""

    port: int
    gateway: SwitchedGateway
    ledger: KeptLedger
    client: UpstreamClient
    guard: Guard
    server: HotServer
    chat: CountedChat
    answers: list[CallerAnswers]
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def serve(self, *endpoints: Endpoint, deadline_s: float = 20.0) -> None:
        self.gateway.swap({"fast": Route("fast", endpoints, deadline_s)}, self.guard)

    async def open(self, body: bytes, key: str = KEY, path: str = CHAT_PATH) -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        head = f"POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: {key}\r\nconnection: close\r\n"
        writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
        return reader

    async def ask(self, body: Any, key: str = KEY, path: str = CHAT_PATH) -> Answered:
        raw = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
        async with asyncio.timeout(PATIENCE_S):
            reader = await self.open(raw, key, path)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            rest = await reader.read()
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        if headers.get("transfer-encoding") == "chunked":
            rest = b"".join(re.findall(rb"[0-9a-f]+\r\n(.*?)\r\n(?=[0-9a-f]+\r\n)", rest, re.S))
        return Answered(int(head[0].split()[1]), headers, rest)


@asynccontextmanager
async def site_of(guard: Guard) -> AsyncIterator[Site]:
    client = UpstreamClient()
    gateway, ledger = SwitchedGateway(client, guard, chance=lambda: 0.0), KeptLedger()
    registry = SimpleNamespace(find=lambda name, _: gateway.find(name), served=SimpleNamespace(routes_release=None))
    identity, teams = cast(Identity, OneKey()), Teams(guard)
    table = HotTable()
    parts = identity, teams, cast(AppRegistry, registry), gateway, ledger
    chat = CountedChat(*parts)
    answers = [CallerAnswers(*parts, RESPONSES), CallerAnswers(*parts, MESSAGES)]
    for path, handler in zip((CHAT_PATH, RESPONSES_PATH, MESSAGES_PATH), (chat, *answers), strict=True):
        table.add("POST", path, handler)

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        return

    listener = bind("127.0.0.1", 0)
    server = make_server(nothing, table, listener, handle_signals=False)
    serving = asyncio.create_task(server.serve())
    await server.ready.wait()
    site = Site(listener.getsockname()[1], gateway, ledger, client, guard, server, chat, answers)
    try:
        yield site
    finally:
        for writer in site.writers:
            writer.transport.abort()
        server.stop()
        await serving
        listener.close()
        await client.close()


@pytest.fixture
async def site(guard: Guard) -> AsyncIterator[Site]:
    async with site_of(guard) as made:
        yield made


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel(default=Reply(text=WORDS)) as made:
        yield made


@pytest.fixture
async def other() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel(default=Reply(text="From the other one.")) as made:
        yield made


def endpoint(name: str, url: str, *, is_local: bool = True, labels: tuple[str, ...] = (), **values: Any) -> Endpoint:
    price = price_from_usd("test", 1.0, 2.0)
    fields: dict[str, Any] = {"model": f"{name}-model", "first_event_s": 2.0, "stall_s": 2.0, "price": price} | values
    return Endpoint(name=name, url=url, is_local=is_local, sink=sink_of(name, is_local, list(labels)), **fields)


def chat(text: str = "Say something", **values: Any) -> dict[str, Any]:
    return {"model": "fast", "messages": [{"role": "user", "content": text}], **values}


def facts_of(trace: Trace) -> dict[str, Any]:
    """What a trace says, without times."""
    return {
        "status": (trace.status, trace.error_code, trace.rung, trace.model, trace.masked_count),
        "question": trace.question and trace.question.text,
        "answer": trace.answer and trace.answer.text,
        "spans": [
            (span.name, span.kind, span.status, {k: v for k, v in span.attributes.items() if k != "first_token_ms"})
            for span in trace.spans
        ],
        "usage": trace.usage,
    }


def without_ids(value: Any) -> Any:
    """A body without what differs from answer to answer."""
    text = re.sub(r"[0-9A-HJKMNP-TV-Z]{26}", "ID", json.dumps(value))
    return json.loads(re.sub(r'"created": \d+', '"created": 0', text))


TOOL = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}}
RELAYED: list[Any] = [
    chat(),
    chat("Ask 10.0.0.5 again"),
    chat("Grüße aus Tromsø"),
    chat(max_tokens=5, temperature=0.5, top_p=1, stop=["x"], seed=1, user="me"),
    chat(stream=False),
    chat(stream=True),
    chat(stream=True, stream_options={"include_usage": True}),
    chat("look it up", tools=[TOOL], tool_choice="auto", stream=True),
    chat("look it up", tools=[TOOL]),
    {"model": "fast", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]},
    b'{"model":"x","model":"fast","messages":[{"role":"user","content":"Hi"}]}',
    b'{"mod\\u0065l":"fast","messages":[{"role":"user","content":"Hi"}]}',
    b'{"model":"fast","messages":[{"role":"user","content":"Hi","content":"Ho"}]}',
]
ORDINARY: list[Any] = [
    chat(max_completion_tokens=5),
    chat(temperature=None),
    chat([{"type": "text", "text": "in parts"}]),  # type: ignore[arg-type]
    {"model": "fast", "messages": [{"role": "developer", "content": "Be brief."}]},
    chat(messages=[{"role": "user", "content": "Hi", "cache_control": {}}]),
    chat(stream=True, metadata={"stream": True}),
    chat("Write to anna.berg@example.com"),
]
REFUSED: list[Any] = [
    chat(n=2),
    chat(max_tokens="five"),
    chat(temperature=9),
    chat(stream="yes"),
    chat(model=7),
    {"model": "fast", "messages": []},
    {"model": "fast"},
    {"model": "nothing", "messages": [{"role": "user", "content": "Hi"}]},
    b"{",
    b"[]",
]


@pytest.mark.parametrize(
    ("body", "is_relayed"), [(b, True) for b in RELAYED] + [(b, False) for b in [*ORDINARY, *REFUSED]]
)
async def test_both_ways_answer_and_record_alike(
    site: Site, model: ScriptedModel, body: Any, *, is_relayed: bool
) -> None:
    model.script(Rule("look it up", Reply(text="", calls=(ScriptedCall("look", '{"a":1}', "call_1"),))))
    site.serve(endpoint("first", model.url))
    short = await site.ask(body)
    assert site.chat.relayed == is_relayed
    state = site.gateway.health_of("first")
    site.gateway.is_short = False
    ordinary = await site.ask(body)

    assert short.status == ordinary.status
    varying = {"date", "x-roadbed-trace", "content-length"}
    assert {k: v for k, v in short.headers.items() if k not in varying} == {
        k: v for k, v in ordinary.headers.items() if k not in varying
    }
    if short.headers["content-type"].startswith("text/event-stream"):
        assert without_ids(short.events) == without_ids(ordinary.events)
        assert short.events[-1] == "[DONE]"
    else:
        assert without_ids(short.json) == without_ids(ordinary.json)
    assert len(site.ledger.traces) in (0, 2)
    if site.ledger.traces:
        first, second = site.ledger.traces
        assert facts_of(first) == facts_of(second)
        assert short.headers["x-roadbed-trace"] == first.id.lower()
        assert (state.requests, state.in_flight, state.failures) == (2, 0, 0)
    for name in ("roadbed_requests_total", "roadbed_tokens_total"):
        assert all(cell[0] % 2 == 0 for cell in site.ledger.metrics._values[name].values())


async def test_bytes_are_the_callers_but_for_the_model(site: Site, model: ScriptedModel) -> None:
    site.serve(endpoint("first", model.url))
    body = b'{ "seed":1.50, "messages":[{"content":"\\u00e9 \\n","role":"user"}],\t"model" : "fast" }'
    assert (await site.ask(body)).status == 200
    streamed = body.replace(b'"seed"', b'"stream":true, "seed"')
    assert "usage" not in (await site.ask(streamed)).events[-2]
    first, second = model.chats
    assert first.body == body.replace(b'"fast"', b'"first-model"')
    asked = b'"first-model","stream_options":{"include_usage":true}'
    assert second.body == streamed.replace(b'"fast"', asked)
    assert site.chat.relayed == 2
    assert site.ledger.traces[1].usage[0].source == "reported"


BEFORE = [
    failing(500),
    failing(503),
    throttled(5.0),
    Reply(text=WORDS, error_after=0),
    Reply(text=WORDS, garbage_after=0),
    Reply(text=WORDS, cut_after=0),
    Reply(text=WORDS, end_after=0),
]
AFTER = [
    Reply(text=WORDS, error_after=3),
    Reply(text=WORDS, garbage_after=3),
    Reply(text=WORDS, cut_after=3),
    Reply(text=WORDS, end_after=3),
]


@pytest.mark.parametrize(
    ("stream", "fault"),
    [(stream, fault) for stream in (False, True) for fault in BEFORE] + [(False, fault) for fault in AFTER],
)
async def test_what_fails_before_anything_was_sent_goes_on_at_the_next_endpoint(
    site: Site, model: ScriptedModel, other: ScriptedModel, fault: Reply, *, stream: bool
) -> None:
    seen = []
    for is_short in (True, False):
        # Each way meets the same state of health.
        first, second = f"first{is_short}", f"second{is_short}"
        site.serve(endpoint(first, model.url, model="m"), endpoint(second, other.url, model="m"))
        model.script(Rule(".", fault))
        site.gateway.is_short = is_short
        answered = await site.ask(chat(stream=True) if stream else chat())
        assert answered.status == 200, answered.body
        assert answered.headers["x-roadbed-rung"] == "fallback"
        text = answered.text if stream else answered.json["choices"][0]["message"]["content"]
        assert text == "From the other one."
        health = site.gateway.health_of(first)
        trace = site.ledger.traces[-1]
        seen.append(
            (
                len(trace.spans),
                [(s.status, s.attributes["failure"], s.attributes["http_status"]) for s in trace.spans],
                [(u.input_tokens, u.output_tokens, u.source) for u in trace.usage],
                (health.requests, health.in_flight, health.failures, health.resting_for, health.breaker.phase),
                round(health.retry_budget, 3),
            )
        )
    assert site.chat.relayed == 1
    assert seen[0] == seen[1]


async def test_refused_connections_and_rejections_end_as_the_ordinary_way(site: Site, model: ScriptedModel) -> None:
    site.serve(endpoint("gone", f"http://127.0.0.1:{refused_port()}/v1"))
    gone = await site.ask(chat())
    assert (gone.status, gone.json["error"]["code"]) == (502, "gateway.endpoints_failed")
    site.serve(endpoint("strict", model.url))
    model.script(Rule(".", failing(400, "invalid_request_error")))
    refused = await site.ask(chat())
    assert (refused.status, refused.json["error"]["code"]) == (400, "gateway.rejected_by_endpoint")
    assert len(model.chats) == 1
    assert site.chat.relayed == 2
    assert [trace.status for trace in site.ledger.traces] == ["failed", "refused"]


async def test_an_endpoint_that_hangs_loses_its_turn_in_time(
    site: Site, model: ScriptedModel, other: ScriptedModel
) -> None:
    site.serve(endpoint("slow", model.url, first_event_s=0.2), endpoint("next", other.url))
    for fault in (Reply(hang=True), Reply(text=WORDS, pings=2, stall_after=0)):
        model.script(Rule(".", fault))
        answered = await site.ask(chat())
        assert answered.json["choices"][0]["message"]["content"] == "From the other one."
        assert answered.json["roadbed"]["degraded"] == ["slow: timeout"]
    assert site.chat.relayed == 2


@pytest.mark.parametrize("fault", [Reply(text=WORDS, cut_after=3), Reply(text=WORDS, stall_after=3)])
async def test_a_cut_after_the_first_content_is_said(site: Site, model: ScriptedModel, fault: Reply) -> None:
    site.serve(endpoint("first", model.url, stall_s=0.2))
    model.script(Rule(".", fault))
    answered = await site.ask(chat(stream=True))
    assert answered.status == 200
    assert answered.text
    assert WORDS.startswith(answered.text)
    assert answered.events[-1]["error"]["code"] == "gateway.stream_cut"
    assert b"[DONE]" not in answered.body
    assert b'"finish_reason":"stop"' not in answered.body
    (trace,) = site.ledger.traces
    assert (trace.status, trace.error_code, trace.usage[0].source) == ("failed", "gateway.stream_cut", "estimated")
    assert trace.answer is not None
    assert trace.answer.text == answered.text
    assert site.chat.relayed == 1
    assert site.gateway.health_of("first").in_flight == 0


@pytest.mark.parametrize("reply", [Reply(text=WORDS, stall_after=2), Reply(hang=True)])
async def test_a_caller_who_leaves_stops_the_endpoint(site: Site, model: ScriptedModel, reply: Reply) -> None:
    site.serve(endpoint("first", model.url))
    model.script(Rule(".", reply))
    reader = await site.open(json.dumps(chat(stream=True)).encode())
    asked = await model.wait_for_request()
    if not reply.hang:
        await reader.readuntil(b"One")
    site.writers[0].transport.abort()
    async with asyncio.timeout(60):
        await asked.closed.wait()
        await site.ledger.arrived.wait()
    (trace,) = site.ledger.traces
    assert (trace.status, trace.error_code) == ("cancelled", "client_left")
    assert trace.spans[0].status == "cancelled"
    health = site.gateway.health_of("first")
    assert (health.in_flight, health.failures, site.chat.relayed) == (0, 0, 1)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("anna.berg@example.com", "anna.berg@example.com"),
        ("anna.berg\\u0040example.com", "anna.berg@example.com"),
        ("AKIAQ3EGVBN7ZK5MW2XH", "AKIAQ3EGVBN7ZK5MW2XH"),
    ],
)
async def test_findings_arrive_masked_elsewhere(site: Site, model: ScriptedModel, written: str, value: str) -> None:
    site.serve(endpoint("cloud", model.url, is_local=False))
    body = b'{"model":"fast","messages":[{"role":"user","content":"Use %b today"}]}' % written.encode()
    assert (await site.ask(body)).status == 200
    sent = model.chats[0].json["messages"][0]["content"]
    assert value not in sent
    assert sent.startswith("Use ")
    assert written.encode() not in model.chats[0].body
    (trace,) = site.ledger.traces
    assert trace.question is not None
    assert value not in trace.question.text
    assert site.chat.relayed == 0


async def test_labels_and_keys_hold_on_the_short_way_too(site: Site, model: ScriptedModel) -> None:
    site.serve(endpoint("cloud", model.url, is_local=False))
    assert (await site.ask(chat(), key="Bearer bad")).status == 401
    route = site.gateway.routes["fast"]
    site.gateway.swap({"fast": Route("fast", route.ladder, 20.0, parse("confidential"))}, site.guard)
    refused = await site.ask(chat())
    assert refused.json["error"]["code"] == "gateway.no_candidate"
    assert not model.chats
    assert site.chat.relayed == 0


async def test_texts_of_a_stream_are_cut_out_and_sent_on_alike(
    site: Site, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    on_text = HotAnswer.on_text

    def counted(self: HotAnswer, raw: bytes, text: str) -> None:
        taken.append(text)
        on_text(self, raw, text)

    monkeypatch.setattr(HotAnswer, "on_text", counted)
    text = 'He said "no" twice,\n\tthen \\ left \u2028 for Tromsø \N{SNOWMAN} and \U0001f600 \x7f the end. ' * 3
    model.script(Rule(".", Reply(text=text, gap_s=0.002)))
    site.serve(endpoint("first", model.url))
    short = await site.ask(chat(stream=True))
    whole = await site.ask(chat())
    assert len(taken) > 10
    site.gateway.is_short = False
    ordinary = await site.ask(chat(stream=True))
    assert without_ids(short.events) == without_ids(ordinary.events)
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in short.events[:-1]) == text
    assert whole.json["choices"][0]["message"]["content"] == text
    first, _, third = site.ledger.traces
    assert facts_of(first) == facts_of(third)


SECRET = "ghp_aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"


@pytest.mark.parametrize("is_short", [True, False])
async def test_a_secret_that_a_model_writes_is_masked_on_both_ways(
    site: Site, model: ScriptedModel, is_short: bool
) -> None:
    text = f"Take the key {SECRET} and go on with the work, as ever."
    model.script(Rule(".", Reply(text=text, gap_s=0.001)))
    site.serve(endpoint("first", model.url))
    site.gateway.is_short = is_short
    streamed, whole = await site.ask(chat(stream=True)), await site.ask(chat())
    said = "".join(event["choices"][0]["delta"].get("content", "") for event in streamed.events[:-1])
    assert said == whole.json["choices"][0]["message"]["content"] == text.replace(SECRET, "[SECRET]")
    assert site.chat.relayed == 2 * is_short
    assert all(trace.answer is not None and SECRET not in trace.answer.text for trace in site.ledger.traces)


async def test_a_stream_begins_well_whose_first_texts_are_held_back(site: Site, model: ScriptedModel) -> None:
    parts = ("It", " dep", "ends", " on", " you", ".")
    model.script(Rule(".", Reply("It depends on you.", parts, gap_s=0.01)))
    site.serve(endpoint("first", model.url))
    answered = await site.ask(chat(stream=True))
    assert answered.status == 200
    said = [event["choices"][0]["delta"].get("content", "") for event in answered.events[:-1]]
    assert "".join(said) == "It depends on you."
    assert site.chat.relayed == 1


@pytest.mark.parametrize("is_short", [True, False])
async def test_a_rule_lets_the_secrets_that_models_write_through(
    site: Site, model: ScriptedModel, is_short: bool
) -> None:
    shown = GuardRule("allow", ["secret"], sink=["caller"], direction="out")
    site.chat.teams.guard = site.guard = site.guard.with_config(GuardConfig(rules=[shown]), {})
    model.script(Rule(".", Reply(text=f"Take {SECRET} and go.", gap_s=0.001)))
    site.serve(endpoint("first", model.url))
    site.gateway.is_short = is_short
    assert SECRET in (await site.ask(chat())).json["choices"][0]["message"]["content"]
    streamed = await site.ask(chat(stream=True))
    said = "".join(event["choices"][0]["delta"].get("content", "") for event in streamed.events[:-1])
    assert SECRET in said


async def test_a_long_answer_arrives_whole(site: Site, model: ScriptedModel) -> None:
    text = "word " * 200_000
    model.script(Rule(".", Reply(text=text)))
    site.serve(endpoint("first", model.url))
    answered = await site.ask(chat())
    assert answered.json["choices"][0]["message"]["content"] == text


def parse(word: str) -> Any:
    from roadbed.kernel.label import parse_label

    return parse_label([word])
