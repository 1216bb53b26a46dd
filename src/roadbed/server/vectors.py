"""``POST /v1/embeddings`` and ``POST /v1/rerank``: the built-in embedder, and routes of these tasks.

Each request is a trace with its usage, as a chat is; its texts are not recorded. Errors have OpenAI's shape. The
invariant: a route is asked by its task alone, and under the label that the request's own texts carry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Address

from roadbed.apps.registry import ServedApp
from roadbed.gateway.dialects.embeddings import Embeddings, EmbeddingsRequest, decode_embeddings, embeddings_body
from roadbed.gateway.dialects.rerank import decode_rerank, rerank_body
from roadbed.gateway.dialects.whole import BODY_BYTES_MAX
from roadbed.gateway.errors import UnsupportedFeature, WrongTask
from roadbed.gateway.limits import Pass
from roadbed.gateway.route import Route
from roadbed.gateway.types import Call, Outcome, Usage
from roadbed.guard.gate import Guard
from roadbed.kernel.errors import RoadbedError, TooLarge
from roadbed.kernel.label import PUBLIC, Label, join_labels
from roadbed.ledger.trace import CANCELLED, FAILED, OK, REFUSED, Trace
from roadbed.ledger.trace import Usage as LedgerUsage
from roadbed.server.admission import Admission
from roadbed.server.chat_hot import PASSED_OVER, RouteFacts
from roadbed.server.http import body_of, endpoint, error_response, headers_of
from roadbed.server.reply import dropped_value
from roadbed.server.services import Services

EMBEDDINGS_PATH = "/v1/embeddings"
RERANK_PATH = "/v1/rerank"
EMBEDDING_MODEL = "minilm-l6"
EMBEDDING_INPUTS_MAX = 256
EMBEDDING_CHARACTERS_MAX = 32_000
LOOKED_AT_INLINE_BYTES_MAX = 128 * 1024

Answered = tuple[bytes, Outcome]
Ask = Callable[[Trace], Awaitable[Answered]]


def vector_routes(services: Services) -> list[Address]:
    """Embeddings and reranking."""

    async def embeddings(request: Request, admission: Admission) -> Any:
        body = await body_of(request, BODY_BYTES_MAX)
        asked = decode_embeddings(body)
        if asked.model == EMBEDDING_MODEL:
            ticket = services.money.entrance.ticket(len(body), admission.principal, EMBEDDING_MODEL)
            trace = _begin(services, admission, EMBEDDING_MODEL, "", ticket)
            return await _traced(services, request, trace, lambda trace: _built_in(services, asked, trace))
        route, trace = _begun(services, admission, asked.model, "embeddings", len(body))

        async def ask(trace: Trace) -> Answered:
            call = await _call(services.teams.guard, admission, route, trace, body, asked.inputs)
            answer, outcome = await services.gateway.embed(route, asked, call)
            facts = _facts(trace, outcome)
            return embeddings_body(asked.model, answer, asked.encoding, outcome.usage, facts), outcome

        return await _traced(services, request, trace, ask)

    async def rerank(request: Request, admission: Admission) -> Any:
        body = await body_of(request, BODY_BYTES_MAX)
        asked = decode_rerank(body)
        route, trace = _begun(services, admission, asked.model, "rerank", len(body))

        async def ask(trace: Trace) -> Answered:
            call = await _call(services.teams.guard, admission, route, trace, body, (asked.query, *asked.documents))
            ranking, outcome = await services.gateway.rerank(route, asked, call)
            facts = _facts(trace, outcome)
            return rerank_body(f"rerank-{trace.id}", asked, ranking, outcome.usage, facts), outcome

        return await _traced(services, request, trace, ask)

    return [
        Address(EMBEDDINGS_PATH, endpoint(services, embeddings), methods=["POST"]),
        Address(RERANK_PATH, endpoint(services, rerank), methods=["POST"]),
    ]


def _begun(services: Services, admission: Admission, model: str, task: str, body_bytes: int) -> tuple[Route, Trace]:
    """The route that answers, and the request's trace. Raises what `AppRegistry.find` does, `AppNotAllowed`, or that a
    limit is used up.
    """
    found = services.registry.find(model, admission.principal)
    services.teams.require_app(admission.principal, model)
    if isinstance(found, ServedApp):
        raise WrongTask(f"{model!r} is an app, not a model for {task}", param="model")
    entrance, ticket = services.money.entrance, None
    if entrance.is_on:
        ticket, answering = entrance.let_in(body_bytes, admission.principal, model, found)
        assert isinstance(answering, Route)
        found = answering
    release = services.registry.served.routes_release
    return found, _begin(services, admission, found.name, release.digest if release is not None else "", ticket)


def _begin(services: Services, admission: Admission, name: str, digest: str, ticket: Pass | None) -> Trace:
    trace = services.ledger.start_trace(name, admission.principal, digest)
    trace.tags = admission.tags
    if ticket is not None:
        ticket.join(trace)
    return trace


async def _traced(services: Services, request: Request, trace: Trace, ask: Ask) -> Response:
    """The response to ``ask``; its trace is finished whatever happens."""
    status, code = FAILED, RoadbedError.code
    try:
        body, outcome = await ask(trace)
        status, code = OK, ""
        trace.rung = outcome.rung
        response = Response(body, media_type="application/json")
        if outcome.dropped:
            response.headers["x-roadbed-dropped"] = dropped_value(outcome.dropped)
    except RoadbedError as error:
        status, code = (REFUSED if error.http_status < 500 else FAILED), error.code
        trace.rung = "refused"
        response = error_response(error, request)
    except asyncio.CancelledError:
        status, code = CANCELLED, "client_left"
        raise
    finally:
        services.ledger.finish(trace, status=status, error_code=code)
    if trace.ticket is not None:
        response.headers.update(headers_of(trace.ticket.headers))
    response.headers["x-roadbed-release"] = trace.release
    response.headers["x-roadbed-trace"] = trace.id
    response.headers["x-roadbed-rung"] = trace.rung
    if trace.label != PUBLIC:
        response.headers["x-roadbed-label"] = ",".join(trace.label.words())
    return response


async def _call(
    guard: Guard, admission: Admission, route: Route, trace: Trace, body: bytes, texts: Sequence[str]
) -> Call:
    """The call with the label of the request's own texts; a long body is looked at in a thread."""
    if len(body) <= LOOKED_AT_INLINE_BYTES_MAX:
        label = _label_of(guard, body, texts, admission)
    else:
        label = await asyncio.to_thread(_label_of, guard, body, texts, admission)
    return Call(admission.principal, admission.deadline(route.deadline_s), label, trace)


def _label_of(guard: Guard, body: bytes, texts: Sequence[str], admission: Admission) -> Label:
    label, team = admission.label, admission.principal.team
    if guard.scan_bytes(body) <= PASSED_OVER:
        return label
    return label.join(join_labels(guard.label_of(text, label, team=team) for text in texts))


def _facts(trace: Trace, outcome: Outcome) -> dict[str, Any]:
    missing = outcome.missing if trace.ticket is None else [*trace.ticket.notes, *outcome.missing]
    labels = trace.label.words() if trace.label != PUBLIC else None
    facts = RouteFacts(outcome.rung, missing, trace.release, trace.id, outcome.endpoint, labels=labels)
    return msgspec.structs.asdict(facts)


async def _built_in(services: Services, asked: EmbeddingsRequest, trace: Trace) -> Answered:
    """Vectors of the built-in model. They cost nothing, and are counted."""
    embedder = services.embedder
    if asked.tokens:
        message = f"input: {EMBEDDING_MODEL} takes no tokens"
        raise UnsupportedFeature(message, hint="send the texts themselves", param="input")
    if len(asked.inputs) > EMBEDDING_INPUTS_MAX:
        raise TooLarge(f"input: {EMBEDDING_MODEL} takes {EMBEDDING_INPUTS_MAX} texts at a time", param="input")
    if any(len(text) > EMBEDDING_CHARACTERS_MAX for text in asked.inputs):
        raise TooLarge(f"input: a text has more than {EMBEDDING_CHARACTERS_MAX} characters", param="input")
    if asked.dimensions not in (None, embedder.dimensions):
        message = f"dimensions: vectors of {EMBEDDING_MODEL} have {embedder.dimensions} numbers"
        raise UnsupportedFeature(message, hint="leave it out", param="dimensions")
    vectors = await services.knowledge.embed(asked.inputs)
    tokens = await asyncio.to_thread(lambda: sum(map(embedder.embedder.token_count, asked.inputs)))
    usage = Usage(input_uncached=tokens)
    trace.model = EMBEDDING_MODEL
    trace.usage.append(LedgerUsage(EMBEDDING_MODEL, EMBEDDING_MODEL, EMBEDDING_MODEL, input_uncached=tokens))
    left_out = [name for name in ("user", "input_type") if getattr(asked, name)]
    outcome = Outcome(route=EMBEDDING_MODEL, endpoint=EMBEDDING_MODEL, usage=usage)
    outcome.dropped = (*asked.dropped, *left_out)
    answer = Embeddings(tuple(vectors.tolist()), usage)
    return embeddings_body(asked.model, answer, asked.encoding, usage, _facts(trace, outcome)), outcome
