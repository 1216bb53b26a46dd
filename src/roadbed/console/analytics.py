"""Analytics: ask an app that answers from databases, run its questions, see table, chart, statements and sources.

Every result says where its rows came from and which statement gave them; it can be saved for the team, and downloaded.
The page needs no script: a question is a form, a chart is SVG made here, and its numbers stand in the table below it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from markupsafe import Markup
from starlette.responses import Response
from starlette.routing import Route

from roadbed.apps.analytics_desk import Prepared
from roadbed.apps.analytics_export import export_of
from roadbed.apps.analytics_shown import AnalyticsAnswer
from roadbed.apps.analytics_table import Table, is_measure, shown
from roadbed.apps.chart import NARROW, choose, svg_of
from roadbed.console.ask import in_words
from roadbed.console.pills import rung_pill
from roadbed.console.services import AnalyticsView
from roadbed.console.visits import Console, FormInvalid, Page, Visit, seen
from roadbed.gateway.types import Message
from roadbed.kernel.errors import InvalidRequest, NotFound
from roadbed.kernel.principal import MEMBER

ROWS_SHOWN = 100
QUESTION_CHARACTERS_MAX = 4_000


class NoAnalytics(NotFound):
    """No analytics app serves that the caller may use."""

    code = "console.no_analytics"
    hint = "declare an app of the kind analytics, with its sources"


def analytics_routes(console: Console) -> list[Route]:
    """The routes of the page."""
    return [
        *console.page("/console/analytics", start),
        *console.action("/console/analytics/{app}/ask", ask, role=MEMBER),
        *console.action("/console/analytics/{app}/save", save, role=MEMBER),
        *console.action("/console/analytics/{app}/export", export_answer, role=MEMBER),
        *console.action("/console/analytics/{app}/delete", delete, role=MEMBER),
        *console.page("/console/analytics/{app}/run/{question}", run),
        Route("/console/analytics/{app}", _gone_on, methods=["GET"]),
    ]


async def _gone_on(request: Any) -> Response:
    return seen("/console/analytics", app=request.path_params["app"])


def _view(visit: Visit) -> AnalyticsView:
    view = visit.services.analytics
    if view is None or not view.apps_for(visit.principal):
        raise NoAnalytics("there is no analytics app that you may use")
    return view


async def start(visit: Visit) -> Page:
    """The form and the questions."""
    apps = _view(visit).apps_for(visit.principal)
    wanted = visit.query("app")
    return await _page(visit, wanted if wanted in apps else apps[0])


async def ask(visit: Visit) -> Page:
    """Answer a question in words."""
    question = visit.text("question").strip()[:QUESTION_CHARACTERS_MAX]
    if not question:
        raise FormInvalid("there is no question", hint="write one")
    app = visit.request.path_params["app"]
    answer = await _view(visit).ask(app, [Message(role="user", content=question)], visit.principal)
    return await _page(visit, app, question=question, answer=answer)


async def run(visit: Visit) -> Page | Response:
    """Run a question by its name; one with parameters shows its form until they are given."""
    app, name = visit.request.path_params["app"], visit.request.path_params["question"]
    view = _view(visit)
    served, _ = await view.questions(app, visit.principal)
    declared = served.config.questions.get(name)
    parameters = declared.parameters if declared is not None else {}
    given = {key: visit.query(key) for key in parameters if visit.query(key)}
    form = {"name": name, "title": declared.title if declared else name, "parameters": parameters, "given": given}
    if any(one.required and one.default is None and key not in given for key, one in parameters.items()):
        return await _page(visit, app, form=form)
    try:
        answer = await view.run(app, name, given, visit.principal, is_export=bool(visit.query("format")))
    except InvalidRequest as error:
        if not parameters:
            raise
        return await _page(visit, app, form=form, error=error)
    if visit.query("format"):
        return _file(answer.table, name, visit.query("format"))
    return await _page(visit, app, form=form if parameters else None, answer=answer, ran=name)


async def export_answer(visit: Visit) -> Response:
    """What was answered, run again, as a file."""
    prepared = _prepared(visit)
    app = visit.request.path_params["app"]
    answer = await _view(visit).run_prepared(app, prepared, visit.text("seal"), visit.principal, is_export=True)
    return _file(answer.table, prepared.title, visit.text("format"))


async def save(visit: Visit) -> Response:
    """Save what was answered for the team."""
    app, name = visit.request.path_params["app"], visit.text("name").strip()
    if not name.replace("-", "").replace("_", "").isalnum() or not name[0].isascii() or len(name) > 63:
        raise FormInvalid("a question's name has letters, digits, - and _", hint="such as sales-by-town")
    every = visit.text("every").strip()
    await _view(visit).save(app, name, _prepared(visit), visit.text("seal"), visit.principal, every)
    return seen("/console/analytics", app=app, told=f"{name} was saved.")


async def delete(visit: Visit) -> Response:
    """Forget a saved question."""
    app, name = visit.request.path_params["app"], visit.text("name")
    await _view(visit).delete(app, name, visit.principal)
    return seen("/console/analytics", app=app, told=f"{name[:63]} was deleted.")


def _prepared(visit: Visit) -> Prepared:
    try:
        return msgspec.json.decode(visit.text("prepared"), type=Prepared)
    except (msgspec.DecodeError, UnicodeError):
        raise FormInvalid("the form was changed on its way") from None


def _file(table: Table | None, name: str, format_: str) -> Response:
    made = export_of(table, name, format_, datetime.now(UTC))
    return Response(made.body, headers=dict(made.headers), media_type=made.media_type)


async def _page(
    visit: Visit,
    app: str,
    *,
    question: str = "",
    answer: AnalyticsAnswer | None = None,
    form: Any = None,
    error: InvalidRequest | None = None,
    ran: str = "",
) -> Page:
    view = _view(visit)
    served, saved = await view.questions(app, visit.principal)
    found = answer.analytics if answer is not None else {}
    table = answer.table if answer is not None else None
    prepared = msgspec.json.encode(found["prepared"]).decode() if found.get("prepared") else ""
    context = {
        "apps": view.apps_for(visit.principal),
        "app": app,
        "description": served.config.description,
        "has_model": served.route() is not None,
        "declared": served.config.questions,
        "saved": saved,
        "examples": served.config.examples[:6],
        "question": question,
        "form": form,
        "error": error,
        "ran": ran,
        "told": visit.query("told")[:200],
        "answer": found if answer is not None else None,
        "rung": rung_pill(answer.facts["rung"]) if answer is not None else None,
        "degraded": [in_words(text) for text in answer.facts["degraded"]] if answer is not None else [],
        "trace": answer.facts["trace"] if answer is not None else "",
        "words": answer.text.split("\n\n")[0] if answer is not None and table is None else "",
        "table": _shown(table) if table is not None else None,
        "chart": _chart(table, found) if table is not None else "",
        "prepared": prepared if found.get("seal") else "",
        "question_characters_max": QUESTION_CHARACTERS_MAX,
    }
    data = {"app": app, "answer": found or None, "rung": answer.facts["rung"] if answer is not None else None}
    return Page("analytics.html", "Analytics", context, data, status=error.http_status if error is not None else 200)


def _chart(table: Table, found: dict[str, Any]) -> Markup:
    wanted = (found.get("prepared") or {}).get("chart", "auto")
    chart = choose(table, wanted)
    if chart is None:
        return Markup("")
    wide = svg_of(table, chart, found["title"], is_standalone=False)
    narrow = svg_of(table, chart, found["title"], is_standalone=False, key="narrow-chart", box=NARROW)
    return Markup(wide + narrow)  # noqa: S704 (every text in them is escaped; the style sheet shows one of them)


def _shown(table: Table) -> dict[str, Any]:
    measures = [is_measure(table, place) for place in range(len(table.columns))]
    return {
        "columns": [
            {"name": column.name, "is_number": is_number}
            for column, is_number in zip(table.columns, measures, strict=True)
        ],
        "rows": [[shown(cell) for cell in row] for row in table.rows[:ROWS_SHOWN]],
        "count": len(table.rows),
        "is_truncated": table.is_truncated,
    }
