"""Reranking: the caller's ``/v1/rerank`` read and answered, and the protocols of servers that score documents.

Pure. Callers may write Cohere's or Jina's shape and get the union of both answers. The invariants: results are sorted
by score, equal ones by position; one list comes from one server, since scores of two models cannot be compared; and
a document in an answer is the caller's own text, never what a server returned.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from roadbed.gateway.dialects.base import EncodedRequest, malformed
from roadbed.gateway.dialects.whole import (
    WholeCodec,
    checked_texts,
    encoded,
    input_usage,
    read_caller,
    read_endpoint,
    under,
)
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import UnsupportedFeature
from roadbed.gateway.types import Usage
from roadbed.kernel.errors import TooLarge

DOCUMENTS_MAX = 1000
SCORE_MAX = 1e300


class RerankRequest(msgspec.Struct, frozen=True):
    """Documents to put in the order of what they have to do with the query."""

    model: str
    query: str
    documents: tuple[str, ...]
    top_n: int | None = None
    return_documents: bool = False
    max_tokens_per_doc: int | None = None
    dropped: tuple[str, ...] = ()

    @property
    def wanted(self) -> int:
        """How many results are asked for."""
        return len(self.documents) if self.top_n is None else min(self.top_n, len(self.documents))


class Ranked(msgspec.Struct, frozen=True, gc=False):
    """One result: a document's position in the request, and its score."""

    index: int
    score: float


class Ranking(msgspec.Struct, frozen=True):
    """The results, best first. ``search_units`` is what the server bills by, where it says so."""

    results: tuple[Ranked, ...]
    usage: Usage | None = None
    search_units: int | None = None


# The caller's side.


class _Document(msgspec.Struct):
    text: str


class _Asked(msgspec.Struct):
    model: Annotated[str, Meta(min_length=1)]
    query: Annotated[str, Meta(min_length=1)]
    documents: Annotated[list[str | _Document], Meta(min_length=1)]
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: Annotated[int, Meta(ge=1)] | None = None
    rank_fields: list[str] | None = None


def decode_rerank(body: bytes) -> RerankRequest:
    """The request in a caller's body. Raises `InvalidChatRequest`, `UnsupportedFeature` or `TooLarge`, with a path."""
    wire, dropped = read_caller(body, _Asked)
    if wire.rank_fields and wire.rank_fields != ["text"]:
        message = "rank_fields: documents are read by their text alone"
        raise UnsupportedFeature(message, hint="put what is to be read into one text", param="rank_fields")
    if len(wire.documents) > DOCUMENTS_MAX:
        raise TooLarge(f"documents: more than {DOCUMENTS_MAX}", param="documents")
    texts = (item if isinstance(item, str) else item.text for item in wire.documents)
    return RerankRequest(
        wire.model,
        checked_texts([wire.query], "query")[0],
        checked_texts(texts, "documents"),
        wire.top_n,
        bool(wire.return_documents),
        wire.max_tokens_per_doc,
        dropped,
    )


def rerank_body(id: str, asked: RerankRequest, answer: Ranking, usage: Usage, roadbed: dict[str, Any]) -> bytes:
    """The answer in the union of Cohere's and Jina's shapes. ``asked`` is the caller's request, not the guarded one;
    ``usage`` is what was settled.
    """
    results = []
    for ranked in answer.results:
        row: dict[str, Any] = {"index": ranked.index, "relevance_score": ranked.score}
        if asked.return_documents:
            row["document"] = {"text": asked.documents[ranked.index]}
        results.append(row)
    tokens = usage.input_tokens
    meta: dict[str, Any] = {"api_version": {"version": "2"}}
    if answer.search_units is not None:
        meta["billed_units"] = {"search_units": answer.search_units}
    body = {
        "id": id,
        "object": "list",
        "model": asked.model,
        "results": results,
        "meta": meta,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "roadbed": roadbed,
    }
    return msgspec.json.encode(body)


# The servers' side.


class _Row(msgspec.Struct):
    index: int
    relevance_score: float


def _checked(
    rows: Iterable[tuple[int, float]], asked: RerankRequest, usage: Usage | None, search_units: int | None = None
) -> Ranking:
    results = [Ranked(index, score) for index, score in rows]
    seen = {ranked.index for ranked in results}
    if len(seen) != len(results) or not seen <= set(range(len(asked.documents))):
        raise malformed("a result names no document, or one twice")
    if len(results) < asked.wanted:
        raise malformed(f"it has {len(results)} results of {asked.wanted}")
    if any(not abs(ranked.score) <= SCORE_MAX for ranked in results):
        raise malformed("a score is no number")
    results.sort(key=lambda ranked: (-ranked.score, ranked.index))
    return Ranking(tuple(results[: asked.wanted]), usage, search_units)


class _CohereUnits(msgspec.Struct):
    search_units: float | None = None


class _CohereMeta(msgspec.Struct):
    billed_units: _CohereUnits | None = None


class _CohereAnswer(msgspec.Struct):
    results: list[_Row]
    meta: _CohereMeta | None = None


class CohereRerank:
    """Cohere's ``POST /v2/rerank``."""

    _decoder = msgspec.json.Decoder(_CohereAnswer)

    def encode(self, asked: RerankRequest, endpoint: Endpoint) -> EncodedRequest:
        """As `WholeCodec`."""
        body: dict[str, Any] = {"model": endpoint.model, "query": asked.query, "documents": asked.documents}
        if asked.top_n is not None:
            body["top_n"] = asked.top_n
        if asked.max_tokens_per_doc is not None:
            body["max_tokens_per_doc"] = asked.max_tokens_per_doc
        return encoded(endpoint, under(endpoint, "/v2", "/rerank"), body)

    def decode(self, body: bytes, asked: RerankRequest) -> Ranking:
        """As `WholeCodec`."""
        answer = read_endpoint(body, self._decoder)
        units = answer.meta.billed_units.search_units if answer.meta and answer.meta.billed_units else None
        whole = int(units) if units is not None and 0 <= units < 1 << 31 else None
        return _checked([(row.index, row.relevance_score) for row in answer.results], asked, None, whole)


class _JinaUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _JinaAnswer(msgspec.Struct):
    results: list[_Row]
    usage: _JinaUsage | None = None


class JinaRerank:
    """Jina's ``POST /rerank``, which vLLM, llama.cpp and others speak too, beside OpenAI's addresses."""

    _decoder = msgspec.json.Decoder(_JinaAnswer)

    def encode(self, asked: RerankRequest, endpoint: Endpoint) -> EncodedRequest:
        """As `WholeCodec`."""
        body: dict[str, Any] = {"model": endpoint.model, "query": asked.query, "documents": asked.documents}
        body["return_documents"] = False
        if asked.top_n is not None:
            body["top_n"] = asked.top_n
        return encoded(endpoint, "/rerank", body, _left_out(asked))

    def decode(self, body: bytes, asked: RerankRequest) -> Ranking:
        """As `WholeCodec`."""
        answer = read_endpoint(body, self._decoder)
        usage = answer.usage or _JinaUsage()
        tokens = usage.total_tokens if usage.prompt_tokens is None else usage.prompt_tokens
        return _checked([(row.index, row.relevance_score) for row in answer.results], asked, input_usage(tokens))


class _TeiRow(msgspec.Struct):
    index: int
    score: float


class TeiRerank:
    """The ``POST /rerank`` of Text Embeddings Inference, which scores all documents and knows no model names."""

    _decoder = msgspec.json.Decoder(list[_TeiRow])

    def encode(self, asked: RerankRequest, endpoint: Endpoint) -> EncodedRequest:
        """As `WholeCodec`."""
        body = {"query": asked.query, "texts": asked.documents, "raw_scores": False, "return_text": False}
        return encoded(endpoint, "/rerank", body, _left_out(asked))

    def decode(self, body: bytes, asked: RerankRequest) -> Ranking:
        """As `WholeCodec`."""
        rows = read_endpoint(body, self._decoder)
        return _checked([(row.index, row.score) for row in rows], asked, None)


def _left_out(asked: RerankRequest) -> list[str]:
    return [] if asked.max_tokens_per_doc is None else ["max_tokens_per_doc"]


RERANKERS: dict[str, WholeCodec[RerankRequest, Ranking]] = {
    "openai": JinaRerank(),
    "cohere": CohereRerank(),
    "tei": TeiRerank(),
}
"""By the endpoint's type."""
