"""The other ``/v1`` addresses in OpenAI's shapes: models, vector store search, embeddings of the built-in model."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from starlette.requests import Request
from starlette.routing import Route

from roadbed.apps.registry import UnknownModel
from roadbed.knowledge.search import Hit
from roadbed.server.admission import Admission, may_call
from roadbed.server.http import endpoint, json_of
from roadbed.server.services import Services

EMBEDDING_MODEL = "minilm-l6"
EMBEDDING_INPUTS_MAX = 256
EMBEDDING_CHARACTERS_MAX = 32_000
SEARCH_DEADLINE_S = 10.0
STARTED_S = int(time.time())
Input = Annotated[str, Meta(min_length=1, max_length=EMBEDDING_CHARACTERS_MAX)]


Query = Annotated[str, Meta(max_length=4_000)]
QUERIES_MAX = 16


class VectorStoreQuery(msgspec.Struct, frozen=True):
    """OpenAI's vector store search request; fields of it that we do not have are ignored."""

    query: Query | Annotated[list[Query], Meta(max_length=QUERIES_MAX)]
    max_num_results: Annotated[int, Meta(ge=1, le=50)] = 10


class EmbeddingRequest(msgspec.Struct, frozen=True):
    """OpenAI's embeddings request."""

    model: str
    input: Input | Annotated[list[Input], Meta(min_length=1, max_length=EMBEDDING_INPUTS_MAX)]
    encoding_format: Literal["float", "base64"] = "float"


def openai_routes(services: Services) -> list[Route]:
    """Models, vector stores and embeddings."""

    async def models(request: Request, admission: Admission) -> Any:
        return {"object": "list", "data": _models(services, admission)}

    async def model(request: Request, admission: Admission) -> Any:
        name = request.path_params["name"]
        for found in _models(services, admission):
            if found["id"] == name:
                return found
        raise UnknownModel(f"there is no app or model named {name[:100]!r}", param="model")

    async def search(request: Request, admission: Admission) -> Any:
        asked = await json_of(request, VectorStoreQuery)
        query = asked.query if isinstance(asked.query, str) else " ".join(asked.query)
        collection = request.path_params["collection"]
        deadline = admission.deadline(SEARCH_DEADLINE_S)
        result = await services.knowledge.search(
            [collection], query, admission.principal, k=asked.max_num_results, deadline=deadline
        )
        data = [_vector_store_hit(hit) for hit in result.hits]
        return {
            "object": "vector_store.search_results.page",
            "search_query": [query],
            "data": data,
            "has_more": False,
            "next_page": None,
            "roadbed": {"missing": list(result.missing)},
        }

    async def embeddings(request: Request, admission: Admission) -> Any:
        asked = await json_of(request, EmbeddingRequest)
        if asked.model != EMBEDDING_MODEL:
            raise UnknownModel(
                f"there is no embedding model named {asked.model[:100]!r}", hint=f"use {EMBEDDING_MODEL}"
            )
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        vectors = await services.knowledge.embed(texts)
        tokens = await asyncio.to_thread(lambda: sum(map(services.embedder.embedder.token_count, texts)))
        return {
            "object": "list",
            "model": EMBEDDING_MODEL,
            "data": [
                {"object": "embedding", "index": i, "embedding": _vector(vector, asked.encoding_format)}
                for i, vector in enumerate(vectors)
            ],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    return [
        Route("/v1/models", endpoint(services, models, is_openai=True)),
        Route("/v1/models/{name:path}", endpoint(services, model, is_openai=True)),
        Route("/v1/vector_stores/{collection}/search", endpoint(services, search, is_openai=True), methods=["POST"]),
        Route("/v1/embeddings", endpoint(services, embeddings, is_openai=True), methods=["POST"]),
    ]


def _models(services: Services, admission: Admission) -> list[dict[str, Any]]:
    principal = admission.principal
    allowed = services.teams.apps_of(principal.team)
    served = services.registry.served
    rows: list[dict[str, Any]] = [
        {
            "id": name,
            "object": "model",
            "created": STARTED_S,
            "owned_by": "roadbed",
            "roadbed": {"kind": app.config.kind, "release": app.release.digest},
        }
        for name, app in sorted(served.apps.items())
    ]
    rows += services.gateway.model_objects(STARTED_S)
    return [row for row in rows if may_call(principal, row["id"], allowed)]


def _vector_store_hit(hit: Hit) -> dict[str, Any]:
    attributes = {
        "source": hit.source,
        "collection": hit.collection,
        "uri": hit.uri,
        "chunk_id": hit.chunk_id,
        "start": hit.start,
        "end": hit.end,
        "page": hit.page,
        "location": hit.location,
    }
    return {
        "file_id": hit.document_id,
        "filename": hit.title,
        "score": hit.score,
        "attributes": attributes,
        "content": [{"type": "text", "text": hit.text}],
    }


def _vector(vector: Any, encoding: str) -> Any:
    if encoding == "base64":
        return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
    return [float(value) for value in vector]
