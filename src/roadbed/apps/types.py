"""The shapes of a turn: what an app is asked, the events it answers with, and the finished answer.

Rungs are the ladder of answers, best first; an answer's rung is the lowest that applied, and ``degraded`` names all
that was missing. Text inside these types is what the caller may see; nothing here goes to a log.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from roadbed.gateway.types import ChatRequest, FinishReason
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.principal import Principal
from roadbed.kernel.release import Release
from roadbed.ledger.trace import Trace, Usage

Rung = Literal["full", "fallback", "local", "partial", "cached", "extractive", "refused"]
RUNGS: tuple[Rung, ...] = ("full", "fallback", "local", "partial", "cached", "extractive", "refused")


def lowest_rung(*rungs: Rung) -> Rung:
    """The lowest of some rungs; ``full`` for none."""
    return max(rungs, key=RUNGS.index, default="full")


@dataclass(frozen=True, slots=True)
class RowOrigin:
    """Where a cited row came from: the tool, what it asked of its source, which row, and the quoted cells.

    ``as_of`` counts seconds from 1970; ``age_s`` is how old a result was that was given again.
    """

    tool: str
    resource: str
    statement: str
    key: str
    cells: tuple[tuple[str, str], ...]
    as_of: float = 0.0
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Citation:
    """One passage or row that an answer rests on.

    ``start`` and ``end`` are codepoint offsets into the document's text. A row of a tool's result has ``row`` and no
    document.
    """

    number: int
    document_id: str
    chunk_id: str
    title: str
    uri: str
    source: str
    collection: str
    start: int
    end: int
    quote: str
    version: str = ""
    page: int | None = None
    location: str = ""
    before: str = ""
    after: str = ""
    row: RowOrigin | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One question to an app. The release is pinned at admission and kept for the whole turn. ``is_whole`` where the
    caller waits for all of the answer.
    """

    app: str
    release: Release
    request: ChatRequest
    principal: Principal
    deadline: Deadline
    trace: Trace
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of answer text that may be shown."""

    text: str


@dataclass(frozen=True, slots=True)
class Cited:
    """A citation that the next piece of text refers to as ``[number]``."""

    citation: Citation


@dataclass(frozen=True, slots=True)
class Progress:
    """What is being done before the answer begins, in a short line for a person who waits. No part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The end of a turn: the whole answer and how it came about. Always the last event.

    ``extra["unsupported"]`` holds the ``(start, end)`` in ``text`` of sentences that no passage bears out;
    ``extra["approvals"]`` the calls that wait for a person.
    """

    text: str
    citations: tuple[Citation, ...]
    rung: Rung
    degraded: tuple[str, ...] = ()
    usage: tuple[Usage, ...] = ()
    abstained: bool = False
    confidence: float | None = None
    supported_sentences: int | None = None
    sentences: int | None = None
    finish_reason: FinishReason = "stop"
    extra: Mapping[str, Any] = field(default_factory=dict)


AnswerEvent = Delta | Cited | Progress | Answered


class App(Protocol):
    """One kind of app. Stateless: everything of a turn is in the `Turn` and what it was built with."""

    def answer(self, turn: Turn) -> AsyncGenerator[AnswerEvent, None]:
        """Answer a turn. Typed errors only when not even an honest refusal can be given."""
        ...
