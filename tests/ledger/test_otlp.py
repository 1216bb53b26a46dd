"""Traces on their way to a collector: what is sent, what never is, and that nobody waits for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.kernel.errors import ConfigError
from roadbed.kernel.guarded import make_guarded
from roadbed.kernel.principal import Principal
from roadbed.kernel.secrets import Secret
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.otlp import QUEUE_TRACES_MAX, Collector, OtlpExporter, headers_of
from roadbed.ledger.otlp_counts import COUNTED, counted_metrics
from roadbed.ledger.otlp_rows import Server, resource_metrics, resource_spans
from roadbed.ledger.trace import FAILED, HEDGE_ENDPOINT, HEDGE_WON, Trace, valid_traceparent
from roadbed.testing.flaky_endpoint import FlakyEndpoint
from roadbed.wire.client import UpstreamClient

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SERVERS = {"cloud": Server("openai", "api.openai.com", 443)}


def a_trace(parent: str = "") -> Trace:
    trace = Trace("helpdesk", Principal(id="key-1", team="office"), "d1")
    trace.take_parent(parent.encode() or None)
    outer = trace.open_span("walk", "step")
    span = trace.open_span("model cloud", "model", parent=outer)
    span.set(endpoint="cloud", model="gpt", http_status=200, failure="", first_token_ms=120.5)
    span.set(input_tokens=12, output_tokens=34)
    trace.close_span(span)
    trace.close_span(outer)
    trace.question = make_guarded("what is the rate of EMAIL_1", sink="record")
    trace.answer = make_guarded("twelve percent", sink="record")
    trace.duration_us, trace.status, trace.error_code = 2_000_000, FAILED, "gateway.stream_cut"
    return trace


def spans_of(trace: Trace, *, has_content: bool = False) -> list[dict[str, Any]]:
    body = resource_spans([trace], "roadbed-acme", "1", SERVERS, has_content=has_content)
    found: list[dict[str, Any]] = json.loads(json.dumps(body))["resourceSpans"][0]["scopeSpans"][0]["spans"]
    return found


def facts_of(span: dict[str, Any]) -> dict[str, Any]:
    return {item["key"]: next(iter(item["value"].values())) for item in span["attributes"]}


def test_a_call_of_a_model_is_a_client_span_by_the_conventions() -> None:
    root, walk, call = spans_of(a_trace())
    assert (root["kind"], call["kind"], call["name"]) == (2, 3, "chat gpt")
    assert (walk["parentSpanId"], call["parentSpanId"]) == (root["spanId"], walk["spanId"])
    assert len({root["traceId"], walk["traceId"], call["traceId"]}) == 1
    assert root["status"]["code"] == 2
    facts = facts_of(call)
    assert facts["gen_ai.operation.name"] == "chat"
    assert facts["gen_ai.provider.name"] == "openai"
    assert (facts["gen_ai.request.model"], facts["gen_ai.response.model"]) == ("gpt", "gpt")
    assert (facts["gen_ai.usage.input_tokens"], facts["gen_ai.usage.output_tokens"]) == ("12", "34")
    assert (facts["server.address"], facts["server.port"]) == ("api.openai.com", "443")
    assert facts_of(root)["error.type"] == "gateway.stream_cut"
    assert int(root["endTimeUnixNano"]) - int(root["startTimeUnixNano"]) == 2_000_000_000


def test_content_is_sent_only_when_it_is_asked_for_and_as_it_was_masked() -> None:
    assert "percent" not in json.dumps(spans_of(a_trace()))
    facts = facts_of(spans_of(a_trace(), has_content=True)[0])
    assert "the rate of EMAIL_1" in facts["gen_ai.input.messages"]
    assert "twelve percent" in facts["gen_ai.output.messages"]


def test_a_caller_s_trace_goes_on() -> None:
    root = spans_of(a_trace(PARENT))[0]
    assert (root["traceId"], root["parentSpanId"]) == (PARENT.split("-")[1], PARENT.split("-")[2])
    assert "parentSpanId" not in spans_of(a_trace("00-" + "0" * 32 + "-b7ad6b7169203331-01"))[0]


@given(st.binary(max_size=60) | st.from_regex(r"[0-9a-g]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}").map(str.encode))
def test_what_is_no_traceparent_is_passed_over(raw: bytes) -> None:
    found = valid_traceparent(raw)
    assert not found or (found.encode() == raw and len(found) == 55 and not found.startswith("ff"))
    assert valid_traceparent(PARENT.encode()) == PARENT


def test_metrics_are_deltas_by_provider_and_model() -> None:
    body = resource_metrics([a_trace(), a_trace()], "roadbed-acme", "1", SERVERS, 5, 9)
    metrics = {metric["name"]: metric for metric in body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]}
    (point,) = metrics["gen_ai.client.inference.usage.output_tokens"]["histogram"]["dataPoints"]
    assert (point["count"], point["sum"]) == ("2", 68.0)
    assert sum(map(int, point["bucketCounts"])) == 2
    assert len(point["bucketCounts"]) == len(point["explicitBounds"]) + 1
    assert "gen_ai.client.inference.time_to_first_chunk" in metrics
    (point,) = metrics["roadbed.gateway.overhead"]["histogram"]["dataPoints"]
    assert point["count"] == "2"
    assert 3.9 < point["sum"] <= 4.0


def test_a_hedge_is_told_in_the_request_s_span() -> None:
    trace = a_trace()
    assert "roadbed.hedge.endpoint" not in facts_of(spans_of(trace)[0])
    trace.attributes.update({HEDGE_ENDPOINT: "spare", HEDGE_WON: False})
    facts = facts_of(spans_of(trace)[0])
    assert (facts["roadbed.hedge.endpoint"], facts["roadbed.hedge.won"]) == ("spare", False)


def counting() -> Metrics:
    """The metrics of a process in which one request was hedged, one waited and two were turned away."""
    metrics = Metrics()
    metrics.declare("roadbed_hedges_total", "counter", "second calls", "route", "event")
    metrics.declare("roadbed_shed_total", "counter", "requests turned away", "route", "reason")
    metrics.declare("roadbed_queue_depth", "gauge", "requests that wait", "route")
    metrics.declare("roadbed_queue_wait_seconds", "histogram", "waits", "route")
    metrics.add("roadbed_hedges_total", ("smart", "started"))
    metrics.add("roadbed_shed_total", ("smart", "late"), 2)
    metrics.set("roadbed_queue_depth", 3.0, ("smart",))
    metrics.observe("roadbed_queue_wait_seconds", 0.2, ("smart",))
    return metrics


def test_hedges_sheds_and_queues_are_sums_since_the_process_began() -> None:
    made = {metric["name"]: metric for metric in counted_metrics(counting().read(COUNTED), 5, 9)}
    sheds = made["roadbed.gateway.sheds"]["sum"]
    assert (sheds["aggregationTemporality"], sheds["isMonotonic"]) == (2, True)
    (point,) = sheds["dataPoints"]
    assert facts_of(point) == {"roadbed.route": "smart", "roadbed.reason": "late"}
    assert (point["asDouble"], point["startTimeUnixNano"], point["timeUnixNano"]) == (2.0, "5", "9")
    assert facts_of(made["roadbed.gateway.hedges"]["sum"]["dataPoints"][0])["roadbed.event"] == "started"
    assert made["roadbed.gateway.queue.depth"]["gauge"]["dataPoints"][0]["asDouble"] == 3.0
    (point,) = made["roadbed.gateway.queue.wait"]["histogram"]["dataPoints"]
    assert (point["count"], point["sum"]) == ("1", 0.2)
    assert len(point["bucketCounts"]) == len(point["explicitBounds"]) + 1
    assert counted_metrics(Metrics().read(COUNTED), 5, 9) == [], "what is counted nowhere is not sent"


async def test_what_is_counted_goes_with_a_batch() -> None:
    collector, client = FakeCollector(), UpstreamClient()
    counted = OtlpExporter(client, counting(), "roadbed-acme", "1", lambda: SERVERS)
    counted.configure(Collector(await collector.start()))
    counted.offer(a_trace())
    await counted.close()
    sent = next(body for path, _, body in collector.got if path == "/v1/metrics")
    names = {metric["name"] for metric in sent["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]}
    assert {"roadbed.gateway.sheds", "roadbed.gateway.queue.wait", "gen_ai.client.inference.duration"} <= names
    await collector.stop()
    await client.close()


class FakeCollector:
    """Takes batches over real HTTP; ``statuses`` are its answers, 200 when there are none left."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.got: list[tuple[str, str, dict[str, Any]]] = []
        self.arrived = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
        body = json.loads(await reader.readexactly(length))
        self.got.append((head.split(" ")[1], head, body))
        status = self.statuses.pop(0) if self.statuses else 200
        writer.write(b"HTTP/1.1 %d Said\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}" % status)
        await writer.drain()
        writer.close()
        self.arrived.set()


@pytest.fixture
async def exporter() -> AsyncIterator[OtlpExporter]:
    client = UpstreamClient()
    made = OtlpExporter(client, Metrics(), "roadbed-acme", "1", lambda: SERVERS)
    yield made
    await made.close()
    await client.close()


async def test_traces_arrive_with_the_headers_of_the_secret(exporter: OtlpExporter) -> None:
    collector = FakeCollector()
    exporter.configure(Collector(await collector.start(), Secret("x-team=acme, authorization=Bearer t")))
    exporter.offer(a_trace())
    await exporter.close()
    await collector.stop()
    assert [path for path, _, _ in collector.got] == ["/v1/traces", "/v1/metrics"]
    assert "x-team: acme" in collector.got[0][1]
    assert "authorization: Bearer t" in collector.got[0][1]
    assert len(collector.got[0][2]["resourceSpans"][0]["scopeSpans"][0]["spans"]) == 3
    assert exporter._metrics.value("roadbed_otlp_sent_total") == 1


async def test_a_collector_that_is_away_or_refuses_costs_traces_and_nothing_else(exporter: OtlpExporter) -> None:
    collector = FakeCollector()
    collector.statuses = [400]
    exporter.configure(Collector(await collector.start()))
    exporter.offer(a_trace())
    await exporter.close()
    await collector.stop()
    assert exporter._metrics.value("roadbed_otlp_dropped_total", ("refused",)) == 1
    async with FlakyEndpoint(fault="black_hole") as hole:
        exporter.configure(Collector(hole.root))
        for _ in range(QUEUE_TRACES_MAX + 7):
            exporter.offer(a_trace())
        assert exporter._metrics.value("roadbed_otlp_dropped_total", ("queue_full",)) == 7
        exporter.configure(None)
        assert not exporter._queue


def test_headers_that_cannot_be_sent_are_refused_and_not_quoted() -> None:
    for text in ("no-pair", "a b=c", "x=one\r\ny: two"):
        with pytest.raises(ConfigError) as caught:
            headers_of(Collector("http://x", Secret(text)))
        assert text not in caught.value.message
