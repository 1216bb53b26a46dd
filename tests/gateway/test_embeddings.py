"""Embeddings: the caller's shape, the servers' documented formats, and the ladder over real HTTP."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import struct
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from roadbed.gateway.dialects.embeddings import (
    EMBEDDERS,
    Embeddings,
    EmbeddingsRequest,
    decode_embeddings,
    embeddings_body,
)
from roadbed.gateway.dialects.openai_server import decode_chat
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import (
    EndpointsFailed,
    GatewayDeadline,
    InvalidChatRequest,
    NoCandidate,
    RejectedByEndpoint,
    UnsupportedFeature,
    UpstreamError,
    WrongTask,
)
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.manifest import EndpointConfig, ModelConfig
from roadbed.gateway.prices import price_from_usd, shipped_prices
from roadbed.gateway.route import Route, build_routes
from roadbed.gateway.types import Usage
from roadbed.guard.gate import Guard
from roadbed.kernel.errors import ConfigError, RoadbedError, TooLarge
from roadbed.kernel.label import Label, Level
from roadbed.kernel.secrets import Secret
from roadbed.ledger.trace import Trace
from roadbed.testing.scripted_model import LoggedRequest, ScriptedModel
from roadbed.testing.scripted_reply import Reply, failing
from roadbed.wire.client import UpstreamClient

from .conftest import CALLER, ask, call, endpoint

TWO = EmbeddingsRequest("embed", ("one", "two"))
EMAIL = "kari.nordmann@example.com"


def sent(dialect: str, asked: EmbeddingsRequest, url: str = "http://x") -> tuple[str, dict[bytes, bytes], Any]:
    server = endpoint("a", url, dialect=dialect, key=Secret("k-1"))
    encoded = EMBEDDERS[dialect].encode(asked, server)
    return encoded.path, dict(encoded.headers), json.loads(encoded.body)


def test_a_callers_request() -> None:
    body = {
        "model": "embed",
        "input": ["one", "two"],
        "encoding_format": "base64",
        "dimensions": 8,
        "user": "u",
        "input_type": "search_query",
        "novelty": 1,
    }
    asked = decode_embeddings(json.dumps(body).encode())
    expected = EmbeddingsRequest("embed", ("one", "two"), (), "base64", 8, "u", "search_query", ("novelty",))
    assert asked == expected
    assert asked.count == 2


@pytest.mark.parametrize(
    ("given_input", "inputs", "tokens"),
    [("one", ("one",), ()), ([1, 2], (), ((1, 2),)), ([[1], [2, 3]], (), ((1,), (2, 3)))],
)
def test_kinds_of_input(given_input: Any, inputs: Any, tokens: Any) -> None:
    asked = decode_embeddings(json.dumps({"model": "m", "input": given_input}).encode())
    assert (asked.inputs, asked.tokens, asked.encoding) == (inputs, tokens, "float")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": [[1], []]}, "input"),
        ({"input": [-1]}, "input"),
        ({"input": [True]}, "input"),
        ({"input": ["x"] * 2049}, "input"),
        ({"input": "x" * 200_001}, "input"),
        ({"input": [1] * 40_000}, "input"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"model": ""}, "model"),
    ],
)
def test_what_a_caller_may_not_write(change: dict[str, Any], param: str) -> None:
    with pytest.raises((InvalidChatRequest, TooLarge)) as raised:
        decode_embeddings(json.dumps({"model": "m", "input": "x", **change}).encode())
    assert raised.value.param == param


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_what_a_caller_gets(encoding: Any) -> None:
    answer = Embeddings(((0.5, -1.0), (0.25, 2.0)))
    body = json.loads(embeddings_body("embed", answer, encoding, Usage(7), {"rung": "full"}))
    vectors = [row.pop("embedding") for row in body["data"]]
    if encoding == "base64":
        vectors = [list(struct.unpack("<2f", base64.b64decode(text))) for text in vectors]
    assert vectors == [[0.5, -1.0], [0.25, 2.0]]
    assert body == {
        "object": "list",
        "model": "embed",
        "data": [{"object": "embedding", "index": 0}, {"object": "embedding", "index": 1}],
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
        "roadbed": {"rung": "full"},
    }


FULL = EmbeddingsRequest("embed", ("one", "two"), (), "base64", 8, "u", "search_query")


def test_openais_request() -> None:
    assert sent("openai", FULL) == (
        "/embeddings",
        {b"content-type": b"application/json", b"authorization": b"Bearer k-1"},
        {"model": "a-model", "input": ["one", "two"], "encoding_format": "float", "dimensions": 8, "user": "u"},
    )
    tokens = EmbeddingsRequest("embed", tokens=((1, 2), (3,)))
    assert sent("openai", tokens)[2]["input"] == [[1, 2], [3]]
    assert sent("tei", TWO)[0] == "/v1/embeddings"
    assert sent("tei", TWO, "http://x/v1")[0] == "/embeddings"


def test_geminis_request() -> None:
    each = {"model": "models/a-model", "outputDimensionality": 8, "taskType": "RETRIEVAL_QUERY"}
    assert sent("gemini", FULL) == (
        "/v1beta/models/a-model:batchEmbedContents",
        {b"content-type": b"application/json", b"x-goog-api-key": b"k-1"},
        {"requests": [{**each, "content": {"parts": [{"text": text}]}} for text in ("one", "two")]},
    )
    assert sent("gemini", TWO, "http://x/v1beta")[0] == "/models/a-model:batchEmbedContents"


def test_ollamas_request() -> None:
    path, _, body = sent("ollama", FULL)
    assert (path, body) == (
        "/api/embed",
        {"model": "a-model", "input": ["one", "two"], "truncate": False, "dimensions": 8},
    )


def test_coheres_request() -> None:
    path, _, body = sent("cohere", FULL)
    assert path == "/v2/embed"
    assert body == {
        "model": "a-model",
        "texts": ["one", "two"],
        "input_type": "search_query",
        "embedding_types": ["float"],
        "truncate": "NONE",
        "output_dimension": 8,
    }
    assert sent("cohere", TWO)[2]["input_type"] == "search_document"


@pytest.mark.parametrize(
    ("dialect", "dropped"),
    [("openai", ("input_type",)), ("gemini", ("user",)), ("ollama", ("user", "input_type")), ("cohere", ("user",))],
)
def test_what_only_quality_needed_is_named(dialect: str, dropped: tuple[str, ...]) -> None:
    assert EMBEDDERS[dialect].encode(FULL, endpoint("a", "http://x", dialect=dialect)).dropped == dropped


@pytest.mark.parametrize("dialect", ["gemini", "ollama", "cohere"])
def test_tokens_go_to_openais_dialect_alone(dialect: str) -> None:
    with pytest.raises(UnsupportedFeature) as raised:
        sent(dialect, EmbeddingsRequest("embed", tokens=((1,),)))
    assert raised.value.param == "input"


@pytest.mark.parametrize(("dialect", "most"), [("gemini", 100), ("cohere", 96)])
def test_more_texts_than_a_server_takes(dialect: str, most: int) -> None:
    sent(dialect, EmbeddingsRequest("embed", ("x",) * most))
    with pytest.raises(UnsupportedFeature):
        sent(dialect, EmbeddingsRequest("embed", ("x",) * (most + 1)))


def packed(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


ANSWERS: list[tuple[str, Any, Usage | None]] = [
    (
        "openai",
        {
            "data": [{"index": 1, "embedding": [3, 4]}, {"index": 0, "embedding": [1, 2]}],
            "usage": {"prompt_tokens": 5, "total_tokens": 5},
        },
        Usage(5),
    ),
    ("openai", {"data": [{"embedding": packed(1, 2)}, {"embedding": packed(3, 4)}]}, None),
    ("tei", {"data": [{"embedding": [1, 2]}, {"embedding": [3, 4]}], "usage": {"total_tokens": 5}}, Usage(5)),
    (
        "gemini",
        {"embeddings": [{"values": [1, 2]}, {"values": [3, 4]}], "usageMetadata": {"promptTokenCount": 5}},
        Usage(5),
    ),
    ("ollama", {"model": "m", "embeddings": [[1, 2], [3, 4]], "prompt_eval_count": 5}, Usage(5)),
    (
        "cohere",
        {"id": "x", "embeddings": {"float": [[1, 2], [3, 4]]}, "meta": {"billed_units": {"input_tokens": 5}}},
        Usage(5),
    ),
]


@pytest.mark.parametrize(("dialect", "body", "usage"), ANSWERS)
def test_documented_answers(dialect: str, body: Any, usage: Usage | None) -> None:
    answer = EMBEDDERS[dialect].decode(json.dumps(body).encode(), TWO)
    assert [list(vector) for vector in answer.vectors] == [[1.0, 2.0], [3.0, 4.0]]
    assert answer.usage == usage


@pytest.mark.parametrize(
    "data",
    [
        [],
        [{"embedding": [1]}],
        [{"embedding": [1]}, {"embedding": [1, 2]}],
        [{"embedding": []}, {"embedding": []}],
        [{"embedding": [1], "index": 0}, {"embedding": [1], "index": 0}],
        [{"embedding": [1], "index": 0}, {"embedding": [1], "index": 2}],
        [{"embedding": [1]}, {"embedding": [1e39]}],
        [{"embedding": "AAA="}, {"embedding": "AAA="}],
        [{"embedding": packed(float("nan"))}, {"embedding": packed(1)}],
        [{"embedding": packed(float("inf"))}, {"embedding": packed(1)}],
        "no list",
    ],
)
def test_an_answer_with_something_missing_is_a_fault(data: Any) -> None:
    with pytest.raises(UpstreamError) as raised:
        EMBEDDERS["openai"].decode(json.dumps({"data": data}).encode(), TWO)
    assert raised.value.failure == "fault"


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.integers(1, 6).flatmap(lambda size: st.lists(st.lists(FLOATS, min_size=size, max_size=size), min_size=1)))
@settings(max_examples=100, deadline=None)
def test_vectors_come_through_unchanged_in_both_encodings(vectors: list[list[float]]) -> None:
    asked = EmbeddingsRequest("m", ("x",) * len(vectors))
    answer = Embeddings(tuple(vectors))
    for encoding in ("float", "base64"):
        body = embeddings_body("m", answer, encoding, Usage(), {})
        again = EMBEDDERS["openai"].decode(body, asked)
        assert [list(vector) for vector in again.vectors] == vectors


KEYS = ["data", "embedding", "index", "usage", "embeddings", "values", "float", "meta", "model", "input", "user"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode())


@given(JSON | st.binary(max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_an_answer_or_a_typed_error(body: bytes) -> None:
    for codec in EMBEDDERS.values():
        with contextlib.suppress(UpstreamError):
            codec.decode(body, TWO)
    with contextlib.suppress(RoadbedError):
        decode_embeddings(body)


# The manifest.


def test_a_route_says_its_task() -> None:
    endpoints = {
        "lab": EndpointConfig("openai", "acme/nomic", url="http://10.0.0.5/v1"),
        "spare": EndpointConfig("tei", "Nomic", url="http://10.0.0.6"),
        "other": EndpointConfig("openai", "bge", url="http://10.0.0.7/v1"),
        "claude": EndpointConfig("anthropic", "c", url="http://10.0.0.8"),
        "tei": EndpointConfig("tei", "r", url="http://10.0.0.9"),
    }

    def routes(**models: ModelConfig) -> dict[str, Route]:
        return build_routes(endpoints, models, prices=shipped_prices())

    found = routes(embed=ModelConfig(["lab", "spare"], task="embeddings"), chat=ModelConfig(["lab"]))
    assert [found["embed"].task, found["chat"].task] == ["embeddings", "chat"]
    with pytest.raises(ConfigError, match="cannot be compared"):
        routes(embed=ModelConfig(["lab", "other"], task="embeddings"))
    with pytest.raises(ConfigError, match="not for embeddings") as raised:
        routes(embed=ModelConfig(["claude"], task="embeddings"))
    assert "tei" in raised.value.hint
    with pytest.raises(ConfigError, match="not for chat"):
        routes(chat=ModelConfig(["tei"]))


# Behind the gateway, over real HTTP.


def vectors_of(request: LoggedRequest) -> Reply:
    data = [{"index": n, "embedding": [float(len(text)), 1.0]} for n, text in enumerate(request.json["input"])]
    return Reply(body=json.dumps({"data": data, "usage": {"prompt_tokens": 4, "total_tokens": 4}}).encode())


MakeEmbedder = Callable[..., Gateway]


@pytest.fixture
def embedder_of(client: UpstreamClient, guard: Guard, first: ScriptedModel, second: ScriptedModel) -> MakeEmbedder:
    """A gateway with one route ``embed``; both servers answer."""
    for model in (first, second):
        model.posts = {"/v1/embeddings": vectors_of}

    def make(*endpoints: Endpoint, deadline_s: float = 60.0, label: Label | None = None) -> Gateway:
        route = Route("embed", endpoints, deadline_s, label or Label(), "embeddings")
        return Gateway(client, guard, {"embed": route, "smart": Route("smart", endpoints)}, chance=lambda: 0.0)

    return make


async def test_vectors_with_usage_cost_and_trace(embedder_of: MakeEmbedder, first: ScriptedModel) -> None:
    trace = Trace("embed", CALLER)
    gateway = embedder_of(endpoint("a", first.url, price=price_from_usd("test", 2, 0)))
    answer, outcome = await gateway.embed("embed", TWO, call(trace=trace))
    assert [list(vector) for vector in answer.vectors] == [[3.0, 1.0], [3.0, 1.0]]
    assert (outcome.endpoint, outcome.rung, outcome.is_complete) == ("a", "full", True)
    assert (outcome.usage, outcome.cost_microusd) == (Usage(4), 8)
    assert [(span.name, span.status) for span in trace.spans] == [("model a", "ok")]
    assert [(usage.endpoint, usage.input_uncached, usage.source) for usage in trace.usage] == [("a", 4, "reported")]
    assert gateway.health_of("a").in_flight == 0


@pytest.mark.parametrize(
    ("fault", "failures"),
    [
        (failing(500), ["fault", "fault"]),
        (failing(401), ["auth"]),
        (Reply(body=b'{"data":[{"embedding":[1]}]}'), ["fault", "fault"]),
        (Reply(body=b"<html>", headers={"content-type": "text/html"}), ["fault", "fault"]),
        (Reply(body=b"data: {}\n\n", headers={"content-type": "text/event-stream"}), ["fault", "fault"]),
        (Reply(body=b"", headers={"content-type": "text/event-stream"}), ["fault", "fault"]),
        (Reply(hang=True), ["timeout"]),
    ],
    ids=["500", "401", "one vector missing", "html", "stream", "empty stream", "silence"],
)
async def test_what_fails_is_recovered_by_the_next(
    embedder_of: MakeEmbedder, first: ScriptedModel, second: ScriptedModel, fault: Reply, failures: list[str]
) -> None:
    first.posts = {"/v1/embeddings": fault}
    first_event_s = 0.1 if fault.hang else 5.0
    gateway = embedder_of(endpoint("a", first.url, first_event_s=first_event_s), endpoint("b", second.url))
    answer, outcome = await gateway.embed("embed", TWO, call())
    assert len(answer.vectors) == 2
    assert [attempt.failure for attempt in outcome.attempts] == [*failures, ""]
    assert (outcome.endpoint, outcome.rung) == ("b", "fallback")
    assert gateway.health_of("a").in_flight == 0


async def test_what_the_caller_is_told(embedder_of: MakeEmbedder, first: ScriptedModel, second: ScriptedModel) -> None:
    gateway = embedder_of(endpoint("a", first.url), endpoint("b", second.url))
    first.posts = {"/v1/embeddings": failing(400, "invalid_request_error")}
    with pytest.raises(RejectedByEndpoint):
        await gateway.embed("embed", TWO, call())
    assert not second.chats, "the caller's mistake is not tried elsewhere"
    first.posts = second.posts = {"/v1/embeddings": failing(401)}
    with pytest.raises(EndpointsFailed):
        await gateway.embed("embed", TWO, call())
    first.posts = second.posts = {"/v1/embeddings": Reply(hang=True)}
    gateway = embedder_of(endpoint("c", first.url), endpoint("d", second.url))
    with pytest.raises(GatewayDeadline):
        await gateway.embed("embed", TWO, call(0.4))
    assert [gateway.health_of(name).in_flight for name in ("c", "d")] == [0, 0]


async def test_a_caller_that_leaves_closes_the_upstream(embedder_of: MakeEmbedder, first: ScriptedModel) -> None:
    first.posts = {"/v1/embeddings": Reply(hang=True)}
    gateway = embedder_of(endpoint("a", first.url))
    task = asyncio.create_task(gateway.embed("embed", TWO, call()))
    request = await first.wait_for_request()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(request.closed.wait(), 60.0)
    assert (gateway.health_of("a").in_flight, gateway.health_of("a").failures) == (0, 0)


async def test_a_failing_endpoint_rests(embedder_of: MakeEmbedder, first: ScriptedModel, second: ScriptedModel) -> None:
    first.posts = {"/v1/embeddings": failing(500)}
    gateway = embedder_of(endpoint("a", first.url), endpoint("b", second.url))
    for _ in range(3):
        await gateway.embed("embed", TWO, call())
    asked = len(first.chats)
    _, outcome = await gateway.embed("embed", TWO, call())
    assert (len(first.chats), outcome.skipped) == (asked, ["a: resting after failures"])


async def test_an_embedder_elsewhere_sees_placeholders(embedder_of: MakeEmbedder, first: ScriptedModel) -> None:
    asked = EmbeddingsRequest("embed", (f"mail {EMAIL}",), user=EMAIL)
    trace = Trace("embed", CALLER)
    await embedder_of(endpoint("cloud", first.url, is_local=False)).embed("embed", asked, call(trace=trace))
    assert first.chats[0].json["input"] == ["mail [EMAIL]"]
    assert EMAIL.encode() not in first.chats[0].body
    assert trace.masked_count == 2
    await embedder_of(endpoint("own", first.url)).embed("embed", asked, call())
    assert first.chats[1].json["input"] == [f"mail {EMAIL}"]


async def test_a_long_request_is_guarded_too(embedder_of: MakeEmbedder, first: ScriptedModel) -> None:
    asked = EmbeddingsRequest("embed", ("word " * 8000 + EMAIL,))
    await embedder_of(endpoint("cloud", first.url, is_local=False)).embed("embed", asked, call())
    assert EMAIL.encode() not in first.chats[0].body


async def test_labels_bound_where_texts_go(embedder_of: MakeEmbedder, first: ScriptedModel) -> None:
    cloud = endpoint("cloud", first.url, is_local=False)
    with pytest.raises(NoCandidate):
        await embedder_of(cloud).embed("embed", TWO, call(label=Label(Level.CONFIDENTIAL)))
    with pytest.raises(NoCandidate):
        await embedder_of(cloud, label=Label(Level.CONFIDENTIAL)).embed("embed", TWO, call())
    tokens = EmbeddingsRequest("embed", tokens=((1, 2),))
    with pytest.raises(NoCandidate, match="unscanned"):
        await embedder_of(endpoint("own", first.url)).embed("embed", tokens, call())
    assert not first.chats
    await embedder_of(endpoint("own", first.url, labels=("unscanned",))).embed("embed", tokens, call())
    assert first.chats[0].json["input"] == [[1, 2]]


async def test_an_endpoint_that_cannot_carry_it_is_passed_over(
    embedder_of: MakeEmbedder, first: ScriptedModel, second: ScriptedModel
) -> None:
    many = EmbeddingsRequest("embed", ("x",) * 97, dropped=("novelty",), input_type="search_query")
    cohere = endpoint("a", first.root, dialect="cohere")
    _, outcome = await embedder_of(cohere, endpoint("b", second.url)).embed("embed", many, call())
    assert (outcome.endpoint, outcome.skipped) == ("b", ["a: cannot carry input"])
    assert outcome.dropped == ("novelty", "input_type")
    with pytest.raises(UnsupportedFeature):
        await embedder_of(cohere).embed("embed", many, call())


async def test_a_route_answers_its_task_alone(embedder_of: MakeEmbedder, first: ScriptedModel) -> None:
    gateway = embedder_of(endpoint("a", first.url))
    with pytest.raises(WrongTask, match="'embed' is for embeddings, not for chat") as raised:
        gateway.stream("embed", ask(), call())
    assert "/v1/embeddings" in raised.value.hint
    with pytest.raises(WrongTask):
        await gateway.complete("embed", ask(), call())
    body = b'{"model":"embed","messages":[{"role":"user","content":"x"}]}'
    assert gateway.relay(gateway.find("embed"), decode_chat(body), body, call()) is None
    with pytest.raises(WrongTask, match="'smart' is for chat"):
        await gateway.embed("smart", TWO, call())
    assert [row["roadbed"]["task"] for row in gateway.model_objects(1)] == ["embeddings", "chat"]
