"""State as a pill: a colour, a sign and a word, so that colour never stands alone. Pure tables and functions.

Green is for what was checked and is well; what is merely usual has the quiet accent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from roadbed.console.services import TriedRoute
from roadbed.gateway.view import EndpointView
from roadbed.guard.keys import KeyRecord
from roadbed.knowledge.states import SourceState
from roadbed.ledger.queries import TraceRow
from roadbed.ledger.trace import OK
from roadbed.sources.registry import SourceHealth

FAILED_FROM = 500
Tone = Literal["good", "warn", "bad", "plain"]


@dataclass(frozen=True, slots=True)
class Pill:
    """One state, as it is shown."""

    tone: Tone
    sign: str
    word: str


_RUNGS = {
    "full": Pill("good", "✓", "full answer"),
    "fallback": Pill("warn", "↓", "fallback model"),
    "local": Pill("plain", "⌂", "local model"),
    "partial": Pill("warn", "!", "partial"),
    "cached": Pill("plain", "↺", "cached"),
    "extractive": Pill("plain", "“", "verbatim quotes"),
    "refused": Pill("bad", "×", "refused"),
}
_DECLINED = Pill("warn", "?", "declined")
_STATUSES = {
    "ok": Pill("good", "✓", "ok"),
    "failed": Pill("bad", "×", "failed"),
    "refused": Pill("warn", "!", "refused"),
    "cancelled": Pill("plain", "–", "cancelled"),
}
_SOURCES = {
    "new": Pill("plain", "…", "waiting"),
    "listing": Pill("plain", "…", "listing"),
    "indexing": Pill("plain", "…", "reading"),
    "held": Pill("warn", "!", "held"),
    "failed": Pill("bad", "×", "failed"),
}
_DOCUMENTS = {
    "indexed": Pill("good", "✓", "indexed"),
    "pending": Pill("plain", "…", "waiting"),
    "failed": Pill("bad", "×", "not readable"),
}


_CONTROLS = {
    "pass": Pill("good", "✓", "holds"),
    "fail": Pill("bad", "×", "failed"),
    "invalid": Pill("bad", "?", "could not look"),
    "stale": Pill("bad", "!", "stale"),
    "waiting": Pill("plain", "…", "not run yet"),
}


def control_pill(standing: str) -> Pill:
    """How a control stands."""
    return _CONTROLS[standing]


def try_pill(tried: TriedRoute) -> Pill:
    """What became of a try: its rung, or how it ended where a model failed on it."""
    if tried.error is not None and tried.error.http_status >= FAILED_FROM:
        return Pill("bad", "×", "broke off" if tried.text else "failed")
    return rung_pill(tried.rung)


def rung_pill(rung: str) -> Pill:
    """The rung of an answer."""
    return _RUNGS.get(rung, Pill("plain", "–", rung or "no answer"))


def trace_pill(row: TraceRow) -> Pill:
    """What became of a request: its answer's rung, that it was declined, or how it ended without an answer."""
    if row.status != OK or not row.rung:
        return status_pill(row.status)
    return _DECLINED if row.is_declined else rung_pill(row.rung)


def status_pill(status: str) -> Pill:
    """How a request or a step ended."""
    return _STATUSES.get(status, Pill("plain", "–", status))


def source_pill(state: SourceState) -> Pill:
    """How a source stands."""
    if state.state == "idle":
        if not state.listed:
            return Pill("plain", "–", "empty")
        return Pill("warn", "!", f"{state.failed} not readable") if state.failed else Pill("good", "✓", "up to date")
    return _SOURCES.get(state.state, Pill("plain", "–", state.state))


def connection_pill(found: SourceHealth) -> Pill:
    """How a data system is reached. Green only once a connection was made."""
    if found.pool is None:
        return Pill("plain", "…", "not asked yet")
    if not found.is_well:
        return Pill("bad", "×", "away" if found.pool.phase == "open" else "being tried again")
    return Pill("warn", "!", "may do too much") if found.warnings else Pill("good", "✓", "reached")


def document_pill(state: str) -> Pill:
    """How a document stands."""
    return _DOCUMENTS.get(state, Pill("plain", "–", state))


def part_pill(text: str) -> Pill:
    """How a part of the server stands; its sentence stands beside it."""
    return Pill("good", "✓", "ok") if text == "ok" else Pill("bad", "×", "needs attention")


def endpoint_pill(unavailable: str, failed_last: str = "") -> Pill:
    """Whether an endpoint would be asked now. Ready is not green: nothing was checked by looking."""
    if unavailable or failed_last:
        return Pill("warn", "!", unavailable or "asked, but failed last")
    return Pill("plain", "→", "ready to ask")


def health_pill(view: EndpointView) -> Pill:
    """How an endpoint stands. Green only for one whose latest attempt was answered and whose breaker is closed; one
    whose breaker was closed by hand is not known to answer until it has.
    """
    if view.is_drained:
        return Pill("warn", "–", "drained")
    if view.unavailable:
        return Pill("warn" if view.breaker == "closed" else "bad", "!", view.unavailable)
    if view.breaker == "open":
        return Pill("warn", "…", "tried with the next request")
    if view.breaker != "closed":
        return Pill("warn", "…", "coming back slowly")
    if view.failed_last:
        return Pill("warn", "!", "failed last")
    if view.is_unproven:
        return Pill("plain", "?", "closed by hand, not known yet")
    return Pill("good", "✓", "answering") if view.first_token_ms is not None else Pill("plain", "→", "ready to ask")


def support_pill(supported: int | None, sentences: int | None) -> Pill | None:
    """How many sentences of an answer their sources bear out."""
    if supported is None or not sentences:
        return None
    noun = "sentence" if sentences == 1 else "sentences"
    word = f"{supported} of {sentences} {noun} supported"
    return Pill("good", "✓", word) if supported == sentences else Pill("warn", "!", word)


def budget_pill(state: str) -> Pill:
    """How a budget stands."""
    if state == "spent":
        return Pill("bad", "×", state)
    return Pill("warn", "!", state) if state == "near its end" else Pill("plain", "→", state)


def key_pill(record: KeyRecord, is_live: bool) -> Pill:
    """Whether a key opens anything."""
    if is_live:
        return Pill("good", "✓", "live")
    return Pill("bad", "×", "revoked") if record.revoked else Pill("warn", "!", "expired")
