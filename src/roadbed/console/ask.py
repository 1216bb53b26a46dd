"""Ask: a question, its answer as it comes, and the evidence beside it.

The form alone does everything: a POST answers with the whole page. With scripts the same form is sent to
``/console/ask/stream``, which sends the text as server-sent events and then the very fragment that the page would have
held. Apps release whole sentences, so a screen reader is given sentences. The invariant: text reaches the browser
escaped, and a turn ends with exactly one fragment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import msgspec
from markupsafe import Markup
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from roadbed.apps.registry import ServedApp
from roadbed.apps.types import Answered, Delta, Progress
from roadbed.console.conversation import (
    QUESTION_CHARACTERS_MAX,
    PastTurn,
    SourceView,
    decode_history,
    encode_history,
    messages_of,
    source_of,
)
from roadbed.console.markdown import render_answer
from roadbed.console.pills import Pill, rung_pill, support_pill
from roadbed.console.services import AskedTurn
from roadbed.console.visits import Console, Page, Visit
from roadbed.kernel.errors import DeadlineExceeded, InvalidRequest, NotFound, RoadbedError, all_errors
from roadbed.wire.sse import encode_event

EXAMPLES_SHOWN = 6


class QuestionInvalid(InvalidRequest):
    """The form holds no question, or one that is too long."""

    code = "console.question_invalid"


class NoSuchApp(NotFound):
    """No app of this name serves, or the key may not call it."""

    code = "console.no_such_app"
    hint = "choose one of the apps that the form lists"


class AnswerLate(DeadlineExceeded):
    """The app did not answer within its deadline."""

    code = "console.answer_late"
    hint = "ask again, or give the app a longer `deadline` in the manifest"


@dataclass(frozen=True, slots=True)
class TurnView:
    """One turn as the page shows it. ``error`` stands instead of an answer."""

    question: str
    html: Markup = field(default_factory=Markup)
    sources: tuple[SourceView, ...] = ()
    pills: tuple[Pill, ...] = ()
    degraded: tuple[str, ...] = ()
    trace_id: str = ""
    release: str = ""
    took_s: float | None = None
    abstained: bool = False
    error: RoadbedError | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question that was checked, ready to be put."""

    app: str
    question: str
    past: tuple[PastTurn, ...]


def ask_routes(console: Console) -> list[Route]:
    """The routes of the page."""

    async def show(visit: Visit) -> Page:
        apps = apps_of(visit)
        return _page(visit, apps, visit.query("app"), question=visit.query("q"))

    async def answer(visit: Visit) -> Page:
        apps = apps_of(visit)
        app = visit.text("app")
        past: tuple[PastTurn, ...] = ()
        try:
            past = decode_history(visit.text("history"))
            asked = _checked(visit, apps, past)
        except (QuestionInvalid, NoSuchApp) as error:
            return _page(visit, apps, app, past=past, question=visit.text("question"), error=error)
        final = TurnView(asked.question)
        async for step in _turn(visit, asked):
            if isinstance(step, _Finished):
                final, past = step.view, step.past
        return _page(visit, apps, app, past=past, latest=final)

    async def stream(visit: Visit) -> Response:
        asked = _checked(visit, apps_of(visit), decode_history(visit.text("history")))

        async def events() -> AsyncIterator[bytes]:
            async with aclosing(_turn(visit, asked)) as steps:
                async for step in steps:
                    if isinstance(step, str):
                        yield encode_event(msgspec.json.encode({"text": step}), b"text")
                    elif isinstance(step, Progress):
                        yield encode_event(msgspec.json.encode({"text": step.text}), b"progress")
                    else:
                        context = {"turn": step.view, "is_auditor": visit.is_auditor}
                        html = console.templates.render("answer.html", context)
                        body = {"turn": html, "history": encode_history(step.past)}
                        yield encode_event(msgspec.json.encode(body), b"done")

        headers = {"cache-control": "no-store, no-transform", "x-accel-buffering": "no"}
        return StreamingResponse(events(), media_type="text/event-stream", headers=headers)

    return [
        *console.page("/console/ask", show),
        *console.action("/console/ask", answer),
        *console.action("/console/ask/stream", stream),
    ]


def apps_of(visit: Visit) -> dict[str, ServedApp]:
    """The apps that the caller may ask, in the order in which people should see them."""
    services = visit.services
    return {name: app for name, app in services.apps().items() if services.may_use(visit.principal, name)}


def _checked(visit: Visit, apps: dict[str, ServedApp], past: tuple[PastTurn, ...]) -> _Asked:
    app = visit.text("app")
    question = (visit.text("example") or visit.text("question")).strip()
    if app not in apps:
        raise NoSuchApp(f"there is no app named {app[:100]!r} that this key may ask")
    if not question:
        raise QuestionInvalid("write a question first")
    if len(question) > QUESTION_CHARACTERS_MAX:
        raise QuestionInvalid(f"a question has at most {QUESTION_CHARACTERS_MAX:,} characters")
    return _Asked(app, question, past)


@dataclass(frozen=True, slots=True)
class _Finished:
    view: TurnView
    past: tuple[PastTurn, ...]


async def _turn(visit: Visit, asked: _Asked) -> AsyncGenerator[str | Progress | _Finished, None]:
    """What is being done and the text as it comes, then how the turn ended; an error is an ending too."""
    started = time.perf_counter()
    turn: AskedTurn | None = None
    answered: Answered | None = None
    error: RoadbedError | None = None
    try:
        turn = visit.services.ask(asked.app, messages_of(asked.past, asked.question), visit.principal)
        async with asyncio.timeout(turn.deadline_s), aclosing(turn.events) as events:
            async for event in events:
                if isinstance(event, Delta):
                    yield event.text
                elif isinstance(event, Progress):
                    yield event
                elif isinstance(event, Answered):
                    answered = event
    except RoadbedError as raised:
        error = raised
    except TimeoutError:
        error = AnswerLate(f"{asked.app} did not answer within its deadline")
    took_s = time.perf_counter() - started
    yield _finished(asked, turn, answered, error, took_s)


def _finished(
    asked: _Asked, turn: AskedTurn | None, answered: Answered | None, error: RoadbedError | None, took_s: float
) -> _Finished:
    trace_id = turn.trace_id if turn is not None else ""
    if error is not None or answered is None:
        error = error or RoadbedError("the app ended without an answer")
        return _Finished(TurnView(asked.question, trace_id=trace_id, error=error, took_s=took_s), asked.past)
    sources = tuple(source_of(citation) for citation in answered.citations)
    past = PastTurn(asked.question, answered.text, sources)
    pills: tuple[Pill | None, ...] = (
        rung_pill(answered.rung),
        support_pill(answered.supported_sentences, answered.sentences),
    )
    if answered.abstained:  # what was quoted without a model is nothing here
        pills = None if answered.rung == "extractive" else pills[0], Pill("plain", "–", "not in these documents")
    view = TurnView(
        asked.question,
        html_of(past),
        sources,
        tuple(pill for pill in pills if pill is not None),
        tuple(in_words(text) for text in answered.degraded),
        trace_id,
        turn.release if turn is not None else "",
        took_s,
        answered.abstained,
    )
    return _Finished(view, (*asked.past, past))


_PASSED_OVER: Final[Mapping[str, str]] = {
    "client": "it refused the request",
    "context": "the question and its passages are too long for it",
    "auth": "it does not accept its key",
    "quota": "its quota is used up",
    "rate": "its rate is used up",
    "overload": "it is overloaded",
    "fault": "it did not work",
    "timeout": "it took too long",
    "filtered": "it withheld its answer",
    "invalid": "its answer could not be read",
}
"""Why a model's endpoint did not answer (`gateway.errors.FailureClass`)."""


def in_words(degraded: str) -> str:
    """What was missing, with the meaning of the error code that it ends in, if it does."""
    subject, _, code = degraded.rpartition(": ")
    if code in _PASSED_OVER:
        return f"{subject} was passed over: {_PASSED_OVER[code]}"
    for error in all_errors():
        if error.code == code:
            meaning = " ".join((error.__doc__ or "").split("\n\n")[0].split()).rstrip(".")
            return f"{subject}: {meaning[:1].lower()}{meaning[1:]} ({code})"
    return degraded


def html_of(turn: PastTurn) -> Markup:
    """An answer with its markers as links."""
    return render_answer(turn.answer, {source.number: (source.address, source.title) for source in turn.sources})


def _page(
    visit: Visit,
    apps: dict[str, ServedApp],
    app: str,
    *,
    past: tuple[PastTurn, ...] = (),
    latest: TurnView | None = None,
    question: str = "",
    error: RoadbedError | None = None,
) -> Page:
    chosen = app if app in apps else next((name for name, a in apps.items() if a.config.kind == "copilot"), "")
    chosen = chosen or next(iter(apps), "")
    earlier = past[:-1] if latest is not None and latest.error is None else past
    turns = [TurnView(turn.question, html_of(turn), turn.sources) for turn in earlier]
    context = {
        "apps": apps,
        "app": chosen,
        "examples": apps[chosen].config.examples[:EXAMPLES_SHOWN] if chosen else [],
        "turns": [*turns, *([latest] if latest is not None else [])],
        "history": encode_history(past),
        "question": latest.question if latest is not None and latest.error is not None else question,
        "error": error,
        "question_characters_max": QUESTION_CHARACTERS_MAX,
    }
    data = {"apps": [{"name": name, "examples": served.config.examples} for name, served in apps.items()]}
    return Page("ask.html", "Ask", context, data, status=error.http_status if error is not None else 200)
