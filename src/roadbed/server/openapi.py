"""`OPERATIONS`: every address, who may call it, what it takes and what it answers, in words.

`openapi_document.py` makes the OpenAPI document of it, and `roadbed docs generate` the page
``docs/reference/http-api.md``. It answers no request itself. The invariant, held by ``tests/docs``: every route of the
application and of the hot table stands here, with the role that it asks for.
"""

from __future__ import annotations

from typing import Final

from roadbed.kernel.principal import ADMIN, AUDITOR, MEMBER
from roadbed.server.access_operations import ACCESS_OPERATIONS
from roadbed.server.admin import AliasOrder, IngestOrder, KeyOrder, RotateOrder, SearchQuery
from roadbed.server.analytics_operations import ANALYTICS_OPERATIONS
from roadbed.server.audit_operations import AUDIT_OPERATIONS
from roadbed.server.control_operations import CONTROL_OPERATIONS
from roadbed.server.credential_routes import CREDENTIAL_OPERATIONS
from roadbed.server.documents import CitedPassage, TextDocument
from roadbed.server.guard_scan import ScanOrder
from roadbed.server.mcp_operations import MCP_OPERATIONS
from roadbed.server.openai import VectorStoreQuery
from roadbed.server.operations import ANYONE, Operation, Query
from roadbed.server.request_schemas import (
    CHAT_REQUEST,
    COUNT_REQUEST,
    EMBEDDINGS_REQUEST,
    MESSAGES_REQUEST,
    RERANK_REQUEST,
    RESPONSES_REQUEST,
)
from roadbed.server.tool_calls import Denial, ToolCall

_LIMIT = Query("limit", "how many at most", "integer")

OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        "POST",
        "/v1/chat/completions",
        MEMBER,
        "OpenAI dialect",
        "Ask an app or a route. With `stream: true` the answer comes as server-sent events.",
        "a chat completion; an app's `choices[0].message.annotations` holds its citations, and `roadbed` holds "
        "{rung, age_s, labels, degraded, release, trace, app, abstained, confidence, sentences, supported, "
        "unsupported: [{start, end}], citations, analytics, approvals}",
        request=CHAT_REQUEST,
    ),
    Operation(
        "GET",
        "/v1/models",
        MEMBER,
        "OpenAI dialect",
        "List the apps and routes that the key may call.",
        "{object: list, data: [{id, object, created, owned_by, roadbed}]}; in Anthropic's shape when the header "
        "`anthropic-version` is sent",
    ),
    Operation(
        "GET",
        "/v1/models/{name}",
        MEMBER,
        "OpenAI dialect",
        "One app or route.",
        "{id, object, created, owned_by, roadbed}",
    ),
    Operation(
        "POST",
        "/v1/vector_stores/{collection}/search",
        MEMBER,
        "OpenAI dialect",
        "Search one collection in the shape of OpenAI's vector stores.",
        "{object, search_query, data: [{file_id, filename, score, attributes, content: [{type, text}]}], has_more, "
        "next_page, roadbed: {missing}}",
        request=VectorStoreQuery,
    ),
    Operation(
        "POST",
        "/v1/responses",
        MEMBER,
        "OpenAI dialect",
        "Ask an app or a route in the shape of OpenAI's Responses API. With `stream: true` the answer comes as "
        "server-sent events.",
        "a response object; an app's text has its citations as `annotations`, and `roadbed` holds what it does in a "
        "chat completion",
        request=RESPONSES_REQUEST,
    ),
    *MCP_OPERATIONS,
    Operation(
        "POST",
        "/v1/embeddings",
        MEMBER,
        "OpenAI dialect",
        "Vectors of texts, from the built-in model `minilm-l6` (384 numbers each) or a route of the task embeddings.",
        "{object: list, model, data: [{object, index, embedding}], usage, roadbed}",
        request=EMBEDDINGS_REQUEST,
    ),
    Operation(
        "POST",
        "/v1/rerank",
        MEMBER,
        "Rerank",
        "Put documents in the order of what they have to do with a query, by a route of the task rerank.",
        "{id, object, model, results: [{index, relevance_score, document?}], meta, usage, roadbed}",
        request=RERANK_REQUEST,
    ),
    Operation(
        "POST",
        "/v1/messages",
        MEMBER,
        "Anthropic dialect",
        "Ask an app or a route in the shape of Anthropic's Messages API. With `stream: true` the answer comes as "
        "server-sent events.",
        "a message; an app's text blocks have their `citations`, and `roadbed` holds what it does in a chat completion",
        request=MESSAGES_REQUEST,
    ),
    Operation(
        "POST",
        "/v1/messages/count_tokens",
        MEMBER,
        "Anthropic dialect",
        "An estimate of a request's input tokens, from its bytes and what the endpoint reported for earlier requests. "
        "Nothing is sent to an endpoint.",
        "{input_tokens}",
        request=COUNT_REQUEST,
    ),
    Operation(
        "POST",
        "/api/search",
        MEMBER,
        "Search",
        "Passages by words and by meaning, from documents that the key may see.",
        "{hits: [{document_id, chunk_id, title, uri, source, collection, text, start, end, page, location, headings, "
        "score, vector_score, lexical_score}], missing, took_ms}",
        request=SearchQuery,
    ),
    Operation(
        "POST",
        "/api/guard/scan",
        MEMBER,
        "Guard",
        "Where personal data and secrets stand in a text of at most 10 MB, in code points. As text/plain the body is "
        "the text. Values are not returned.",
        "{findings: [{type, start, end, rule, confidence}], counts, characters, engine, missing, is_cut}",
        request=ScanOrder,
    ),
    Operation(
        "GET",
        "/api/status",
        MEMBER,
        "Operation",
        "What runs: version, parts, apps, models, sources.",
        "{name, version, ready, parts, problem, apps, models, sources, connections}",
    ),
    Operation(
        "GET",
        "/api/sources",
        MEMBER,
        "Documents",
        "Every source with counts, progress and its problem; for auditors and admins, failed documents with reasons, "
        "and how the data system behind it is reached.",
        "[{name, type, state, documents, indexed, failed, pending, held, outdated, rate_per_s, eta_s, listed_at, "
        "attempted_at, watched, problem, failures: [{document_id, document, reason, message}], "
        "connection: {name, type, well, pool: {size, in_use, idle, waiting, breaker, retry_after_s, last_failure, "
        "last_failure_at}, notes, warnings: [{message, fix}]}}]",
    ),
    Operation(
        "POST",
        "/api/ingest",
        ADMIN,
        "Documents",
        "List one source, or all, again now. At once; a source is done once its attempted_at is not before asked_at.",
        "{started, asked_at}",
        request=IngestOrder,
        status=202,
    ),
    Operation(
        "GET",
        "/api/documents",
        MEMBER,
        "Documents",
        "A page of one source's documents that the key may see.",
        "{documents, next}; pass `next` as `after` for the next page",
        query=(
            Query("source", "the source's name", is_required=True),
            Query("state", "indexed, failed or pending"),
            Query("after", "`next` of the page before"),
            _LIMIT,
        ),
    ),
    Operation(
        "GET",
        "/api/documents/{id}",
        MEMBER,
        "Documents",
        "One document: title, version, labels, parser, warnings, who may see it.",
        "{id, source, key, title, uri, version, labels, language, media_type, parser, warnings, visible_to, "
        "characters, indexed_at}",
    ),
    Operation(
        "DELETE",
        "/api/documents/{id}",
        ADMIN,
        "Documents",
        "Delete an uploaded document. Documents of other sources follow their source.",
        "nothing",
        status=204,
    ),
    Operation(
        "GET",
        "/api/documents/{id}/text",
        MEMBER,
        "Documents",
        "The document's text as it was indexed; citation offsets are codepoints of it.",
        "the text",
        media_type="text/plain",
    ),
    Operation(
        "GET",
        "/api/documents/{id}/chunks",
        MEMBER,
        "Documents",
        "The document's chunks in order.",
        "a list of chunks with their offsets and headings",
    ),
    Operation(
        "POST",
        "/api/documents/{id}/passage",
        MEMBER,
        "Documents",
        "Where a cited passage stands in the document as it is now: send the citation as it was given. `passage` is "
        "null where it has changed or is gone.",
        "{document_id, version, passage: {start, end, quote, how, similarity} or null}; `how` is same_version, "
        "same_place, moved, by_context or similar",
        request=CitedPassage,
    ),
    Operation(
        "POST",
        "/api/collections/{name}/documents",
        ADMIN,
        "Documents",
        "Add documents to a collection: one as JSON text, or files as multipart/form-data.",
        "{documents: [{id, name, state}]}",
        request=TextDocument,
        status=202,
        takes_files=True,
    ),
    Operation(
        "GET",
        "/api/traces",
        AUDITOR,
        "Traces",
        "Recent requests, newest first.",
        "{traces, next}; pass `next` as `before` for the next page",
        query=(
            Query("app", "only this app or route"),
            Query("rung", "only this kind of answer"),
            Query("status", "ok, refused, failed or cancelled"),
            Query("declined", "`true`: only those answered by saying that the documents do not hold it"),
            Query("within", "how far back, for example 2h (default 24h)"),
            Query("before", "`next` of the page before"),
            _LIMIT,
        ),
    ),
    *AUDIT_OPERATIONS,
    *ACCESS_OPERATIONS,
    *CONTROL_OPERATIONS,
    *ANALYTICS_OPERATIONS,
    *CREDENTIAL_OPERATIONS,
    Operation(
        "GET",
        "/api/tools",
        MEMBER,
        "Tools",
        "The tools that the caller may call, with their schemas; for auditors how each goes.",
        "{tools: [{name, title, description, source, effect, labels, timeout_s, input_schema, output_schema, "
        "standing?}]}",
        query=(Query("names", "sources, tools or beginnings of names, with commas between"),),
    ),
    Operation(
        "POST",
        "/api/tools/{name}/call",
        MEMBER,
        "Tools",
        "Call a tool. 202 when the call waits for a person; the same call again tells what came of it.",
        "{outcome: ok, data, provenance: [{source, resource, as_of, statement, age_s}], labels, is_truncated, cursor} "
        "or {outcome: needs_approval, approval_id, preview, digest, expires_at}",
        ToolCall,
    ),
    Operation(
        "GET",
        "/api/tools/approvals",
        AUDITOR,
        "Tools",
        "Calls that wait for a person.",
        "{approvals: [{id, tool, source, effect, arguments, preview, digest, asker, team, state, expires, …}]}",
        query=(Query("all", "1 for decided and expired ones too"),),
    ),
    Operation(
        "POST",
        "/api/tools/approvals/{id}/approve",
        ADMIN,
        "Tools",
        "Let a waiting call run, once. What cannot be undone is not approved by who asks for it.",
        "what came of the call, as from POST /api/tools/{name}/call",
    ),
    Operation(
        "POST",
        "/api/tools/approvals/{id}/deny",
        ADMIN,
        "Tools",
        "Decide against a waiting call.",
        "{denied}",
        Denial,
    ),
    Operation(
        "GET",
        "/api/usage",
        AUDITOR,
        "Traces",
        "What was used and what it cost, summed up, and how the budgets of the running period stand. Micro-USD.",
        "{by, from, to, rows: [{<group>, calls, input_tokens, output_tokens, reasoning_tokens, cost_microusd, "
        "estimated_microusd}], total, is_cut, budgets: [{id, starts, ends, cap, settled, leased}]}; with format=csv "
        "the rows alone, as text/csv",
        query=(
            Query("by", "up to three of team, app, route, endpoint, model, release, key, tag, day (default team)"),
            Query("within", "how far back, for example 7d (default 30d)"),
            Query("from", "first day in UTC, for example 2026-11-01"),
            Query("to", "last day"),
            Query("format", "json or csv"),
        ),
    ),
    Operation(
        "GET",
        "/api/traces/{id}",
        AUDITOR,
        "Traces",
        "One request with its steps: what was retrieved, which models were tried, how long each step took.",
        "{trace, spans, ...}",
    ),
    Operation("GET", "/api/keys", ADMIN, "Keys", "List keys, never their values.", "a list of keys"),
    Operation(
        "POST",
        "/api/keys",
        ADMIN,
        "Keys",
        "Make a key. Its value is in this answer and nowhere else.",
        "{id, name, team, roles, apps, models, ip, state, created, expires, last_used, rotated, previous_until, "
        "budget, scopes, person, age_days, key, note}; `note` says when its team is not declared",
        request=KeyOrder,
        status=201,
    ),
    Operation(
        "POST",
        "/api/keys/{id}/rotate",
        ADMIN,
        "Keys",
        "Give a key a new value; the one before it stays good for `overlap`.",
        "as when a key is made",
        request=RotateOrder,
    ),
    Operation(
        "DELETE", "/api/keys/{id}", ADMIN, "Keys", "Revoke a key, everywhere, within a second.", "nothing", status=204
    ),
    Operation(
        "GET",
        "/api/releases",
        AUDITOR,
        "Releases",
        "What is live and what waits, for every app.",
        "[{app, live, candidate, held}]",
    ),
    Operation(
        "GET",
        "/api/releases/{app}",
        AUDITOR,
        "Releases",
        "One app's aliases and their history, newest first.",
        "{app, live, candidate, held, history}",
    ),
    Operation(
        "POST",
        "/api/releases/{app}/promote",
        ADMIN,
        "Releases",
        "Make a release live: the candidate, or the one named. Ends the hold that a rollback left. Where "
        "`access.two_persons` names promotions it waits for a second person (202).",
        "the move, or what waits",
        request=AliasOrder,
    ),
    Operation(
        "POST",
        "/api/releases/{app}/rollback",
        ADMIN,
        "Releases",
        "Go back to the release before, or to the one named, and hold it until a promote.",
        "the move",
        request=AliasOrder,
    ),
    Operation(
        "GET",
        "/api/models",
        AUDITOR,
        "Operation",
        "Routes with their ladders, every endpoint's health, spend and last failures, local engines found, and "
        "provider keys that are set and not used. Health is of the process that answers.",
        "{routes, endpoints: [{endpoint, model, dialect, address, is_local, routes, unavailable, breaker, open_for_s, "
        "is_drained, in_flight, connections_max, requests, failures, first_token_ms, "
        "first_token_shares_ms: {p50, p95, p99}, failed_last, is_unproven, "
        "recent_failures: [{failure, reason, age_s}], spent_today_microusd}], engines, unused_provider_keys}",
    ),
    Operation(
        "GET",
        "/api/routes/{name}/explain",
        AUDITOR,
        "Operation",
        "Which endpoint of a route would take a request like this one now, and why not the others.",
        "{route, label, tokens, strategy, by_chance, on_cut, rule, would_ask, order: [{endpoint, rung, weight, "
        "in_flight, seconds_per_token, failed_last, continues}], left_out: [reason], refused}",
        query=(
            Query("label", "the data's label: a level and categories, with commas between"),
            Query("tokens", "the prompt's length in tokens", "integer"),
            Query("team", "the caller's team; the key's own when left out"),
            Query("header", "a request header that the route's rules read, as name=value"),
        ),
    ),
    Operation(
        "POST",
        "/api/sign-in-links",
        ADMIN,
        "Keys",
        "A path that signs this key in to the console, once, within 15 minutes.",
        "{path}",
        status=201,
    ),
    Operation("GET", "/healthz", ANYONE, "Operation", "Whether the process turns.", "`ok`", media_type="text/plain"),
    Operation(
        "GET",
        "/readyz",
        ANYONE,
        "Operation",
        "Whether requests can be served; 503 and the part that is not ready when they cannot.",
        "{ready, version, workers: {running, wanted, process_number}, parts}",
    ),
    Operation(
        "GET",
        "/metrics",
        ANYONE,
        "Operation",
        "Counters, gauges and histograms as Prometheus text.",
        "Prometheus text, format 0.0.4",
        media_type="text/plain",
    ),
    Operation("GET", "/openapi.json", ANYONE, "Operation", "This document.", "OpenAPI 3.1"),
)
