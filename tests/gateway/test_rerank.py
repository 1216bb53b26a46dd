"""Reranking: the caller's two shapes, the servers' documented formats, and the ladder over real HTTP."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from roadbed.gateway.dialects.rerank import (
    RERANKERS,
    Ranked,
    Ranking,
    RerankRequest,
    decode_rerank,
    rerank_body,
)
from roadbed.gateway.errors import EndpointsFailed, InvalidChatRequest, UnsupportedFeature, UpstreamError, WrongTask
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.route import Route
from roadbed.gateway.types import Usage
from roadbed.guard.gate import Guard
from roadbed.kernel.errors import RoadbedError, TooLarge
from roadbed.kernel.secrets import Secret
from roadbed.testing.scripted_model import LoggedRequest, ScriptedModel
from roadbed.testing.scripted_reply import Reply, failing
from roadbed.wire.client import UpstreamClient

from .conftest import call, endpoint

THREE = RerankRequest("ranks", "q", ("zero", "one", "two"))
EMAIL = "kari.nordmann@example.com"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, THREE),
        ({"top_n": 2, "max_tokens_per_doc": 9}, RerankRequest("ranks", "q", THREE.documents, 2, False, 9)),
        ({"return_documents": True, "truncation": True}, RerankRequest(
            "ranks", "q", THREE.documents, None, True, None, ("truncation",)
        )),
        ({"documents": [{"text": "zero"}, "one", {"text": "two", "id": 7}], "rank_fields": ["text"]}, THREE),
    ],
    ids=["both", "Cohere's", "Jina's", "documents with fields"],
)  # fmt: skip
def test_callers_requests(more: dict[str, Any], expected: RerankRequest) -> None:
    body = {"model": "ranks", "query": "q", "documents": ["zero", "one", "two"], **more}
    assert decode_rerank(json.dumps(body).encode()) == expected


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"query": ""}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": ["a", ""]}, "documents"),
        ({"documents": ["a", 1]}, "documents[1]"),
        ({"documents": ["a"] * 1001}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"rank_fields": ["title"]}, "rank_fields"),
    ],
)
def test_what_a_caller_may_not_write(change: dict[str, Any], param: str) -> None:
    with pytest.raises((InvalidChatRequest, UnsupportedFeature, TooLarge)) as raised:
        decode_rerank(json.dumps({"model": "m", "query": "q", "documents": ["a"], **change}).encode())
    assert raised.value.param == param


def test_what_a_caller_gets_is_the_union_of_both_shapes() -> None:
    answer = Ranking((Ranked(2, 0.9), Ranked(0, 0.1)), search_units=1)
    body = {
        "id": "r-1",
        "object": "list",
        "model": "ranks",
        "results": [{"index": 2, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}],
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
        "roadbed": {"rung": "full"},
    }
    assert json.loads(rerank_body("r-1", THREE, answer, Usage(7), {"rung": "full"})) == body
    asked = RerankRequest("ranks", "q", THREE.documents, return_documents=True)
    shown = json.loads(rerank_body("r-1", asked, Ranking(answer.results), Usage(), {}))
    assert [row["document"] for row in shown["results"]] == [{"text": "two"}, {"text": "zero"}]
    assert "billed_units" not in shown["meta"]


ASKED = RerankRequest("ranks", "q", THREE.documents, 2, True, 9)


@pytest.mark.parametrize(
    ("dialect", "path", "body", "dropped"),
    [
        ("cohere", "/v2/rerank", {"model": "a-model", "documents": [*ASKED.documents], "top_n": 2,
                                  "max_tokens_per_doc": 9}, ()),
        ("openai", "/rerank", {"model": "a-model", "documents": [*ASKED.documents], "top_n": 2,
                               "return_documents": False}, ("max_tokens_per_doc",)),
        ("tei", "/rerank", {"texts": [*ASKED.documents], "raw_scores": False, "return_text": False},
         ("max_tokens_per_doc",)),
    ],
)  # fmt: skip
def test_servers_requests(dialect: str, path: str, body: dict[str, Any], dropped: tuple[str, ...]) -> None:
    encoded = RERANKERS[dialect].encode(ASKED, endpoint("a", "http://x", dialect=dialect, key=Secret("k-1")))
    assert encoded.path == path
    assert dict(encoded.headers)[b"authorization"] == b"Bearer k-1"
    assert json.loads(encoded.body) == {"query": "q", **body}
    assert encoded.dropped == dropped


ROWS = [(1, 0.5), (0, 0.25), (2, 0.5)]
COHERE = {
    "id": "x",
    "results": [{"index": index, "relevance_score": score} for index, score in ROWS],
    "meta": {"billed_units": {"search_units": 1}},
}
JINA = {
    "model": "m",
    "results": [{"index": i, "relevance_score": s, "document": {"text": "theirs"}} for i, s in ROWS],
    "usage": {"total_tokens": 5},
}
TEI = [{"index": index, "score": score} for index, score in ROWS]
IN_ORDER = (Ranked(1, 0.5), Ranked(2, 0.5), Ranked(0, 0.25))


@pytest.mark.parametrize(
    ("dialect", "body", "expected"),
    [
        ("cohere", COHERE, Ranking(IN_ORDER, search_units=1)),
        ("openai", JINA, Ranking(IN_ORDER, Usage(5))),
        ("tei", TEI, Ranking(IN_ORDER)),
    ],
)
def test_documented_answers_sorted_and_ties_by_position(dialect: str, body: Any, expected: Ranking) -> None:
    assert RERANKERS[dialect].decode(json.dumps(body).encode(), THREE) == expected


def test_more_results_than_asked_for_are_cut() -> None:
    answer = RERANKERS["tei"].decode(json.dumps(TEI).encode(), RerankRequest("m", "q", THREE.documents, 2))
    assert answer.results == IN_ORDER[:2]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        ROWS[:2],
        [*ROWS[:2], (1, 0.1)],
        [*ROWS[:2], (3, 0.1)],
        [*ROWS[:2], (-1, 0.1)],
        [*ROWS[:2], (2, 1e301)],
    ],
    ids=["none", "one missing", "one twice", "no such document", "before the first", "no score"],
)
def test_a_list_with_something_missing_is_a_fault(rows: list[tuple[int, float]]) -> None:
    body = [{"index": index, "score": score} for index, score in rows]
    with pytest.raises(UpstreamError) as raised:
        RERANKERS["tei"].decode(json.dumps(body).encode(), THREE)
    assert raised.value.failure == "fault"


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=12), st.integers(1, 14), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_the_order_does_not_depend_on_the_servers(scores: list[float], top_n: int, random: Any) -> None:
    asked = RerankRequest("m", "q", ("d",) * len(scores), top_n)
    rows = [{"index": index, "score": score} for index, score in enumerate(scores)]
    random.shuffle(rows)
    results = RERANKERS["tei"].decode(json.dumps(rows).encode(), asked).results
    expected = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[:top_n]
    assert [ranked.index for ranked in results] == expected


KEYS = ["results", "index", "relevance_score", "score", "meta", "billed_units", "usage", "model", "query", "documents"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode())


@given(JSON | st.binary(max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_an_answer_or_a_typed_error(body: bytes) -> None:
    for codec in RERANKERS.values():
        with contextlib.suppress(UpstreamError):
            codec.decode(body, THREE)
    with contextlib.suppress(RoadbedError):
        decode_rerank(body)


# Behind the gateway, over real HTTP.


def lengths(request: LoggedRequest) -> Reply:
    """Longer documents first."""
    texts = request.json.get("documents") or request.json["texts"]
    rows = [{"index": index, "relevance_score": float(len(text))} for index, text in enumerate(texts)]
    return Reply(body=json.dumps({"results": rows}).encode())


@pytest.fixture
def ranked_by(client: UpstreamClient, guard: Guard) -> Any:
    """A gateway with one route ``ranks``."""

    def make(*endpoints: Any) -> Gateway:
        return Gateway(client, guard, {"ranks": Route("ranks", endpoints, task="rerank")}, chance=lambda: 0.0)

    return make


async def test_a_ranking_comes_from_one_server_whole(
    ranked_by: Any, first: ScriptedModel, second: ScriptedModel
) -> None:
    half = {"results": [{"index": 0, "relevance_score": 99.0}]}
    first.posts = {"/v2/rerank": Reply(body=json.dumps(half).encode())}
    second.posts = {"/v1/rerank": lengths}
    gateway = ranked_by(endpoint("a", first.root, dialect="cohere"), endpoint("b", second.url))
    answer, outcome = await gateway.rerank("ranks", THREE, call())
    assert answer.results == (Ranked(0, 4.0), Ranked(1, 3.0), Ranked(2, 3.0))
    assert (outcome.endpoint, outcome.rung, outcome.is_complete) == ("b", "fallback", True)
    assert [attempt.failure for attempt in outcome.attempts] == ["fault", "fault", ""]
    assert outcome.usage.is_estimated, "a server that reports nothing is estimated"


async def test_all_that_fail(ranked_by: Any, first: ScriptedModel) -> None:
    first.posts = {"/rerank": failing(401)}
    gateway = ranked_by(endpoint("a", first.root, dialect="tei"))
    with pytest.raises(EndpointsFailed):
        await gateway.rerank("ranks", THREE, call())
    with pytest.raises(WrongTask, match="rerank"):
        await gateway.embed("ranks", None, call())


async def test_a_reranker_elsewhere_sees_one_token_per_value(ranked_by: Any, first: ScriptedModel) -> None:
    first.posts = {"/v1/rerank": lengths}
    asked = RerankRequest("ranks", f"who is {EMAIL}", (f"it is {EMAIL}", "nobody"), return_documents=True)
    answer, _ = await ranked_by(endpoint("cloud", first.url, is_local=False)).rerank("ranks", asked, call())
    sent = first.chats[0].json
    assert EMAIL not in json.dumps(sent)
    assert sent["query"].split()[-1] == sent["documents"][0].split()[-1], "the query still meets its document"
    shown = json.loads(rerank_body("r", asked, answer, Usage(), {}))
    assert shown["results"][0]["document"]["text"] == f"it is {EMAIL}"
