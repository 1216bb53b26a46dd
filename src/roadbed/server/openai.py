"""Models and vector store search, in OpenAI's shapes; models in Anthropic's, too, for callers who send
``anthropic-version``.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from roadbed.apps.registry import UnknownModel
from roadbed.gateway.dialects.anthropic_server import model_object, models_body
from roadbed.kernel.errors import InvalidRequest
from roadbed.knowledge.search import Hit
from roadbed.server.admission import Admission
from roadbed.server.http import endpoint, is_anthropic, json_of
from roadbed.server.services import Services

SEARCH_DEADLINE_S = 10.0
STARTED_S = int(time.time())


Query = Annotated[str, Meta(max_length=4_000)]
QUERIES_MAX = 16


class VectorStoreQuery(msgspec.Struct, frozen=True):
    """OpenAI's vector store search request; fields of it that we do not have are ignored, but for ``filters``."""

    query: Query | Annotated[list[Query], Meta(max_length=QUERIES_MAX)]
    max_num_results: Annotated[int, Meta(ge=1, le=50)] = 10
    filters: dict[str, Any] | None = None


def openai_routes(services: Services) -> list[Route]:
    """Models and vector stores."""

    async def models(request: Request, admission: Admission) -> Any:
        rows = _models(services, admission)
        if is_anthropic(request):
            body = models_body((row["id"], row["created"]) for row in rows)
            return Response(body, media_type="application/json")
        return {"object": "list", "data": rows}

    async def model(request: Request, admission: Admission) -> Any:
        name = request.path_params["name"]
        for found in _models(services, admission):
            if found["id"] == name:
                return model_object(name, found["created"]) if is_anthropic(request) else found
        raise UnknownModel(f"there is no app or model named {name[:100]!r}", param="model")

    async def search(request: Request, admission: Admission) -> Any:
        asked = await json_of(request, VectorStoreQuery)
        if asked.filters:  # ignored, they would let through what the caller wants left out
            hint = "ask without it; which documents a key finds is said by `visible_to`"
            raise InvalidRequest("filters: results are not filtered by attributes", hint=hint, param="filters")
        query = asked.query if isinstance(asked.query, str) else " ".join(asked.query)
        collection = request.path_params["collection"]
        deadline = admission.deadline(SEARCH_DEADLINE_S)
        result = await services.knowledge.search_named(
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

    return [
        Route("/v1/models", endpoint(services, models)),
        Route("/v1/models/{name:path}", endpoint(services, model)),
        Route("/v1/vector_stores/{collection}/search", endpoint(services, search), methods=["POST"]),
    ]


def _models(services: Services, admission: Admission) -> list[dict[str, Any]]:
    principal = admission.principal
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
    return [row for row in rows if services.teams.may_call(principal, row["id"])]


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
