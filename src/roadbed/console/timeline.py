"""A trace as bars over time and as sentences: pure functions from stored spans to what the page draws and says.

Positions are percentages of the trace's length, written as SVG attributes. Sentences come from the facts of a span
(names, counts, codes); spans hold no text of questions or documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from roadbed.console.formatting import count, duration_us
from roadbed.ledger.queries import SpanRow, TraceRow
from roadbed.ledger.trace import FAILED, OK

TICKS_MAX = 5
BAR_SHARE_MIN = 0.3
_STEPS_US = tuple(factor * 10**power for power in range(2, 10) for factor in (1, 2, 5))
_SAID = frozenset(
    {"hits", "collections", "best", "missing", "endpoint", "model", "first_token_ms", "input_tokens", "output_tokens"}
    | {"failure", "reason", "http_status", "is_local", "sentences", "confidence", "error", "k", "watermark"}
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One step on the time axis; positions and widths are percentages, ``wait`` the part before a first token."""

    span: SpanRow
    depth: int
    left: str
    width: str
    wait_width: str
    detail: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the time axis."""

    left: str
    label: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """What the page draws."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]


def timeline(trace: TraceRow, spans: Sequence[SpanRow]) -> Timeline:
    """The bars of a trace in order of their numbers."""
    length = max([trace.duration_us, *(span.start_us + span.duration_us for span in spans)], default=0) or 1
    depths: dict[int, int] = {}
    bars = []
    for span in spans:
        depths[span.number] = depths[span.parent] + 1 if span.parent in depths else 0
        left = 100 * span.start_us / length
        width = max(100 * span.duration_us / length, BAR_SHARE_MIN)
        left = min(left, 100 - BAR_SHARE_MIN)
        first_ms = span.attributes.get("first_token_ms")
        wait = 0.0
        if isinstance(first_ms, int | float) and span.duration_us:
            wait = min(width, 100 * first_ms * 1000 / length)
        bars.append(Bar(span, depths[span.number], _percent(left), _percent(width), _percent(wait), detail(span)))
    step = next((step for step in _STEPS_US if length / step <= TICKS_MAX), _STEPS_US[-1])
    ticks = tuple(
        Tick(_percent(100 * at / length), duration_us(at).replace(".0 ", " ").replace(".00 ", " ") if at else "0")
        for at in range(0, length, step)
        if at / length < 0.93
    )
    return Timeline(tuple(bars), ticks)


def _percent(value: float) -> str:
    return f"{value:.3f}%"


def detail(span: SpanRow) -> str:
    """What a step did, in a sentence or two."""
    facts = span.attributes
    writer = {"search": _search, "model": _model}.get(span.kind)
    said = writer(facts) if writer is not None else _extract(facts) if "sentences" in facts else []
    if error := facts.get("error"):
        said.append(f"Ended with {error}.")
    rest = ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in facts.items() if _is_left(name, value, said)
    )
    return " ".join([*said, f"{rest[:1].upper()}{rest[1:]}." if rest else ""]).strip()


def _is_left(name: str, value: Any, said: Sequence[str]) -> bool:
    return value not in (None, "") and not (said and name in _SAID)


def _search(facts: Mapping[str, Any]) -> list[str]:
    if "hits" not in facts:
        return []
    hits = int(facts["hits"])
    where = f" in {facts['collections']}" if facts.get("collections") else ""
    said = [f"{count(hits)} {'passage' if hits == 1 else 'passages'} found{where}."]
    if facts.get("missing"):
        said.append(f"Left out: {facts['missing']}.")
    return said


def _model(facts: Mapping[str, Any]) -> list[str]:
    if "endpoint" not in facts:
        return []
    said = []
    if facts.get("failure"):
        status = f" (HTTP {facts['http_status']})" if facts.get("http_status") else ""
        said.append(f"{str(facts['failure']).capitalize()}{status}: {facts.get('reason') or 'no reason given'}.")
    if facts.get("first_token_ms") is not None:
        said.append(f"First text after {duration_us(float(facts['first_token_ms']) * 1000)}.")
    if facts.get("input_tokens") or facts.get("output_tokens"):
        said.append(f"{count(facts.get('input_tokens') or 0)} tokens in, {count(facts.get('output_tokens') or 0)} out.")
    if facts.get("is_local"):
        said.append("Ran on this machine.")
    return said


def _extract(facts: Mapping[str, Any]) -> list[str]:
    sentences = int(facts["sentences"])
    said = [f"{sentences} {'sentence' if sentences == 1 else 'sentences'} quoted." if sentences else "Nothing quoted."]
    if facts.get("confidence") is not None:
        said.append(f"Confidence {float(facts['confidence']):.2f}.")
    return said


def outcome(trace: TraceRow, spans: Sequence[SpanRow]) -> str:
    """What happened in one sentence, for the head of the page."""
    after = f"{duration_us(trace.duration_us)} after the question"
    failed = sum(span.status == FAILED for span in spans)
    if trace.status == OK and failed:
        after += f" and after {failed} failed {'step' if failed == 1 else 'steps'}"
    match trace.status:
        case "ok":
            if trace.is_declined or (trace.rung == "extractive" and _quoted_nothing(spans)):
                return f"{trace.app} said that the documents do not hold it, {after}."
            how = {
                "full": "answered in full",
                "fallback": "answered on a fallback model",
                "local": "answered on a local model",
                "partial": "answered with something missing",
                "cached": "answered from an earlier answer",
                "extractive": "answered by quoting documents, without a model",
            }.get(trace.rung, "answered")
            return f"{trace.app} {how}, {after}."
        case "refused":
            return f"{trace.app} refused the request, {after}{_because(trace)}."
        case "cancelled":
            return f"The caller left {trace.app} before the answer was complete, {after}."
        case _:
            return f"{trace.app} failed, {after}{_because(trace)}."


def _quoted_nothing(spans: Sequence[SpanRow]) -> bool:
    found = [span.attributes["sentences"] for span in spans if "sentences" in span.attributes]
    return bool(found) and not any(found)


def _because(trace: TraceRow) -> str:
    return f": {trace.error_code}" if trace.error_code else ""
