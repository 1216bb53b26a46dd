"""Running one turn of an app with its trace: the path that `/v1`, the console and `/api` share.

Whatever happens, the trace is finished exactly once with an honest status. The answer's wire facts (the ``roadbed``
object, annotations, headers) are made here, so that every surface says the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from roadbed.apps.registry import ServedApp
from roadbed.apps.types import Answered, AnswerEvent, Citation, Progress, RowOrigin, Turn
from roadbed.gateway.types import ChatRequest
from roadbed.guard.gate import Guard
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import DeadlineExceeded, RoadbedError
from roadbed.kernel.label import PUBLIC, Label
from roadbed.kernel.principal import Principal
from roadbed.ledger.ledger import Ledger
from roadbed.ledger.trace import CANCELLED, DECLINED, FAILED, OK, REFUSED
from roadbed.server.citing import MARKER, source_of


class TurnTimedOut(DeadlineExceeded):
    """The app did not answer within the request's deadline."""

    code = "apps.deadline_exceeded"
    hint = "allow more time with x-roadbed-deadline-ms, or a longer `deadline` of the app"


def begin_turn(
    ledger: Ledger,
    served: ServedApp,
    request: ChatRequest,
    principal: Principal,
    deadline: Deadline,
    *,
    is_whole: bool = False,
) -> Turn:
    """A turn pinned to the release that serves now, with its trace begun."""
    trace = ledger.start_trace(served.name, principal, served.release.digest)
    return Turn(served.name, served.release, request, principal, deadline, trace, is_whole)


async def run_turn(ledger: Ledger, served: ServedApp, turn: Turn, guard: Guard) -> AsyncGenerator[AnswerEvent, None]:
    """The events of a turn; its trace is finished when this ends, breaks or is cancelled.

    Raises `GuardBlocked` before anything is said whose label a rule keeps from the caller's team.
    """
    status, rung, code = CANCELLED, "", ""
    checked: Label = PUBLIC
    try:
        async with aclosing(served.app.answer(turn)) as events:
            async for event in events:
                if turn.trace.label is not checked and not isinstance(event, Progress):
                    checked = turn.trace.label
                    guard.check_label(checked, "caller", turn.principal.team)
                if isinstance(event, Answered):
                    status, rung = OK, event.rung
                    if event.abstained:
                        turn.trace.attributes[DECLINED] = True
                yield event
    except RoadbedError as error:
        status, rung, code = (REFUSED if error.http_status < 500 else FAILED), "refused", error.code
        raise
    except (asyncio.CancelledError, GeneratorExit):
        if turn.trace.cut_by:
            status, rung, code = REFUSED, "refused", turn.trace.cut_by
        elif turn.deadline.has_passed():
            status, code = FAILED, TurnTimedOut.code
        else:
            status, code = CANCELLED, "client_left"
        raise
    except Exception as error:
        status, code = FAILED, type(error).__name__
        raise
    finally:
        question = turn.trace.question
        turn.trace.masked_count += question.masked_count if question is not None else 0
        ledger.finish(turn.trace, status=status, rung=rung, error_code=code)


def facts_of(turn: Turn, answered: Answered) -> dict[str, Any]:
    """The ``roadbed`` object of an answer."""
    age = {"age_s": turn.trace.attributes.get("cache_age_s")} if answered.rung == "cached" else {}
    return {
        "rung": answered.rung,
        **age,
        "degraded": [*(turn.trace.ticket.notes if turn.trace.ticket is not None else ()), *answered.degraded],
        **({"labels": turn.trace.label.words()} if turn.trace.label is not PUBLIC else {}),
        "release": turn.release.digest,
        "trace": turn.trace.id,
        "app": turn.app,
        "abstained": answered.abstained,
        "confidence": round(answered.confidence, 4) if answered.confidence is not None else None,
        "sentences": answered.sentences,
        "supported": answered.supported_sentences,
        "unsupported": [{"start": start, "end": end} for start, end in answered.extra.get("unsupported", ())],
        "citations": [citation_object(citation) for citation in answered.citations],
        **({"analytics": answered.extra["analytics"]} if "analytics" in answered.extra else {}),
        **({"approvals": list(answered.extra["approvals"])} if answered.extra.get("approvals") else {}),
    }


def citation_object(citation: Citation) -> dict[str, Any]:
    """One citation on the wire. Offsets are codepoints of the document's text. A row's has what it came from."""
    return {
        "number": citation.number,
        "document_id": citation.document_id,
        "chunk_id": citation.chunk_id,
        "title": citation.title,
        "uri": citation.uri,
        "source": citation.source,
        "collection": citation.collection,
        "version": citation.version,
        "start": citation.start,
        "end": citation.end,
        "quote": citation.quote,
        "page": citation.page,
        "location": citation.location,
        **(_row_object(citation.row) if citation.row is not None else {}),
    }


def _row_object(row: RowOrigin) -> dict[str, Any]:
    return {
        "tool": row.tool,
        "resource": row.resource,
        "statement": row.statement,
        "row": row.key,
        "cells": [{"name": name, "value": value} for name, value in row.cells],
        "as_of": row.as_of,
        "age_s": row.age_s,
    }


def annotations_of(text: str, citations: tuple[Citation, ...]) -> list[dict[str, Any]]:
    """OpenAI's annotations: one for each marker in the text; indexes are codepoints of the content."""
    by_number = {citation.number: citation for citation in citations}
    found = []
    for match in MARKER.finditer(text):
        citation = by_number.get(int(match[1]))
        if citation is not None:
            source = source_of(citation)
            found.append(
                {
                    "type": "file_citation",
                    "file_id": source["id"],
                    "filename": source["title"],
                    "index": match.start(),
                    "start_index": match.start(),
                    "end_index": match.end(),
                    "quote": citation.quote,
                    "url": citation.uri,
                }
            )
    return found
