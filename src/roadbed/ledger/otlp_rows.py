"""Finished traces as OpenTelemetry's JSON: spans and delta metrics, by its conventions for generative AI. Pure.

Times are nanoseconds since 1970. A caller's ``traceparent`` gives the trace id and the parent. The invariant: no text
of a question or an answer is in it unless ``has_content``, and then only as the guard masked it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from roadbed.ledger.overhead import OVERHEAD_BOUNDS_S, overhead_us
from roadbed.ledger.trace import FAILED, HEDGE_ENDPOINT, HEDGE_WON, OK, TRACEPARENT, Attribute, Span, Trace

DURATION_BOUNDS_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BOUNDS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)
OVERHEAD = "roadbed.gateway.overhead"
SERVER, CLIENT, INTERNAL = 2, 3, 1
DELTA = 1


class Server(msgspec.Struct, frozen=True):
    """Where an endpoint's requests go, in the conventions' words."""

    provider: str
    address: str
    port: int


def resource_spans(
    traces: Iterable[Trace], service: str, version: str, servers: Mapping[str, Server], *, has_content: bool
) -> dict[str, Any]:
    """The body for ``/v1/traces``."""
    spans = [span for trace in traces for span in _spans_of(trace, servers, has_content=has_content)]
    scope = {"scope": {"name": "roadbed", "version": version}, "spans": spans}
    return {"resourceSpans": [{"resource": _resource(service, version), "scopeSpans": [scope]}]}


def _resource(service: str, version: str) -> dict[str, Any]:
    return {"attributes": _attributes({"service.name": service, "service.version": version})}


def _spans_of(trace: Trace, servers: Mapping[str, Server], *, has_content: bool) -> list[dict[str, Any]]:
    parent = str(trace.attributes.get(TRACEPARENT) or "")
    _, trace_id, parent_id, _ = parent.split("-") if parent else ("", _id(trace.id, 16), "", "")
    root_id = _id(trace.id, 8)
    facts: dict[str, Attribute] = {
        "roadbed.app": trace.app,
        "roadbed.release": trace.release,
        "roadbed.team": trace.principal.team,
        "roadbed.rung": trace.rung,
        "roadbed.trace": trace.id,
        "error.type": trace.error_code or None,
        "roadbed.hedge.endpoint": trace.attributes.get(HEDGE_ENDPOINT),
        "roadbed.hedge.won": trace.attributes.get(HEDGE_WON),
    }
    if has_content and trace.question is not None:
        facts["gen_ai.input.messages"] = _message("user", trace.question.text)
    if has_content and trace.answer is not None:
        facts["gen_ai.output.messages"] = _message("assistant", trace.answer.text)
    root = _span(trace_id, root_id, parent_id, trace.app, SERVER, trace.started_us, trace.duration_us, facts)
    root["status"] = _status(trace.status)
    found = [root]
    for span in trace.spans:
        above = _id(f"{trace.id}/{span.parent}", 8) if span.parent >= 0 else root_id
        name, kind, named = _named(span, servers)
        began_us = trace.started_us + span.start_us
        own_id = _id(f"{trace.id}/{span.number}", 8)
        one = _span(trace_id, own_id, above, name, kind, began_us, span.duration_us, named)
        one["status"] = _status(span.status)
        found.append(one)
    return found


def _named(span: Span, servers: Mapping[str, Server]) -> tuple[str, int, dict[str, Attribute]]:
    """A span's name, kind and attributes; a call of a model by the conventions, any other step in our own words."""
    facts = span.attributes
    if span.kind != "model" or "endpoint" not in facts:
        return span.name, INTERNAL, {f"roadbed.{name}": value for name, value in facts.items()}
    model, server = str(facts["model"]), servers.get(str(facts["endpoint"]))
    named: dict[str, Attribute] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": server.provider if server is not None else "unknown",
        "gen_ai.request.model": model,
        "gen_ai.response.model": model,
        "gen_ai.usage.input_tokens": facts.get("input_tokens"),
        "gen_ai.usage.output_tokens": facts.get("output_tokens"),
        "server.address": server.address if server is not None else None,
        "server.port": server.port if server is not None else None,
        "http.response.status_code": facts.get("http_status") or None,
        "error.type": facts.get("failure") or None,
        "roadbed.endpoint": facts["endpoint"],
        "roadbed.first_token_ms": facts.get("first_token_ms"),
    }
    return f"chat {model}", CLIENT, named


def _span(
    trace_id: str,
    span_id: str,
    parent_id: str,
    name: str,
    kind: int,
    began_us: int,
    duration_us: int,
    facts: Mapping[str, Attribute],
) -> dict[str, Any]:
    span = {
        "traceId": trace_id,
        "spanId": span_id,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(began_us * 1000),
        "endTimeUnixNano": str((began_us + duration_us) * 1000),
        "attributes": _attributes(facts),
    }
    return {**span, "parentSpanId": parent_id} if parent_id else span


def _status(status: str) -> dict[str, int]:
    return {"code": {OK: 1, FAILED: 2}.get(status, 0)}


def _id(text: str, size: int) -> str:
    return blake2b(text.encode(), digest_size=size).hexdigest()


def _message(role: str, text: str) -> str:
    return msgspec.json.encode([{"role": role, "parts": [{"type": "text", "content": text}]}]).decode()


def _attributes(facts: Mapping[str, Attribute]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in facts.items() if value is not None and value != ""]


def _value(value: Attribute) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": str(value)}


# Metrics.


def resource_metrics(
    traces: Iterable[Trace],
    service: str,
    version: str,
    servers: Mapping[str, Server],
    since_ns: int,
    now_ns: int,
    counted: Iterable[dict[str, Any]] = (),
) -> dict[str, Any]:
    """The body for ``/v1/metrics``: what the calls of these traces took and used, as deltas, and what was counted
    besides.
    """
    overheads: dict[str, list[float]] = {}
    taken: dict[str, dict[tuple[str, str, str], list[float]]] = {name: {} for name, _, _ in INSTRUMENTS}
    for trace in traces:
        taken_us = overhead_us(trace)
        if taken_us is not None:
            overheads.setdefault(trace.app, []).append(taken_us / 1e6)
        for span in trace.spans:
            facts = span.attributes
            if span.kind != "model" or "endpoint" not in facts:
                continue
            server = servers.get(str(facts["endpoint"]))
            key = (server.provider if server else "unknown", str(facts["model"]), str(facts.get("failure") or ""))
            first_ms = facts.get("first_token_ms")
            values = {
                "gen_ai.client.inference.duration": span.duration_us / 1e6,
                "gen_ai.client.inference.time_to_first_chunk": None if first_ms is None else float(first_ms) / 1000,
                "gen_ai.client.inference.usage.input_tokens": facts.get("input_tokens"),
                "gen_ai.client.inference.usage.output_tokens": facts.get("output_tokens"),
            }
            for name, value in values.items():
                if value is not None:
                    taken[name].setdefault(key, []).append(float(value))
    metrics = [
        _histogram(
            name, unit, [_point(_of_call(key), seen, bounds, since_ns, now_ns) for key, seen in taken[name].items()]
        )
        for name, unit, bounds in INSTRUMENTS
        if taken[name]
    ]
    if overheads:
        points = [
            _point({"roadbed.app": app}, seen, OVERHEAD_BOUNDS_S, since_ns, now_ns) for app, seen in overheads.items()
        ]
        metrics.append(_histogram(OVERHEAD, "s", points))
    metrics += counted
    scope = {"scope": {"name": "roadbed", "version": version}, "metrics": metrics}
    return {"resourceMetrics": [{"resource": _resource(service, version), "scopeMetrics": [scope]}]}


INSTRUMENTS: tuple[tuple[str, str, tuple[float, ...]], ...] = (
    ("gen_ai.client.inference.duration", "s", DURATION_BOUNDS_S),
    ("gen_ai.client.inference.time_to_first_chunk", "s", DURATION_BOUNDS_S),
    ("gen_ai.client.inference.usage.input_tokens", "{token}", TOKEN_BOUNDS),
    ("gen_ai.client.inference.usage.output_tokens", "{token}", TOKEN_BOUNDS),
)


def _histogram(name: str, unit: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": name, "unit": unit, "histogram": {"aggregationTemporality": DELTA, "dataPoints": points}}


def _of_call(key: tuple[str, str, str]) -> dict[str, Attribute]:
    provider, model, failure = key
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "error.type": failure or None,
    }


def _point(
    facts: Mapping[str, Attribute], seen: list[float], bounds: tuple[float, ...], since_ns: int, now_ns: int
) -> dict[str, Any]:
    counts = [0] * (len(bounds) + 1)
    for value in seen:
        counts[bisect_left(bounds, value)] += 1
    return {
        "attributes": _attributes(facts),
        "startTimeUnixNano": str(since_ns),
        "timeUnixNano": str(now_ns),
        "count": str(len(seen)),
        "sum": sum(seen),
        "bucketCounts": [str(count) for count in counts],
        "explicitBounds": list(bounds),
    }
